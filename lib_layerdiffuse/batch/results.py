"""A row's results: files in memory, then written, read back, and told of in `row.json`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ..errors import CodecError, OutputError, SettingsError
from ..imaging.coverage import Coverage, Verdict, measure
from ..imaging.images import to_u8
from ..imaging.reading import read_image
from ..methods import Layer
from ..standalone.output import OutputFolder
from ..standalone.saved import SavedDocument, SavedImage, number_of
from ..standalone.two_steps import Step
from .described import Described
from .places import DONE, Place, row_file
from .requests import Request


@dataclass(frozen=True)
class MadeFile:
    """One file of a row.

    Attributes:
        name: Its own.
        data: Its bytes.
        told: What a program is told of it, without its place.
        has_alpha: Whether it is a foreground, which is to be transparent.
    """

    name: str
    data: bytes
    told: Mapping[str, Any]
    has_alpha: bool

    @property
    def coverage(self) -> Coverage:
        """What its bytes' alpha amounts to."""
        return _coverage(self.data, self.name)


def made_files(made: Described, steps: Sequence[Step]) -> list[MadeFile]:
    """Returns a row's files, in the order in which they are made.

    Raises:
        CodecError: The transparency of a foreground could not be found.
        OutputError: There is no place for temporary files.
    """
    for image in (image for step in steps for image in step.images):
        if image.latent is not None:
            raise CodecError(image.note, "Choose a smaller size, or another device.")
    try:
        with TemporaryDirectory(prefix="layerdiffuse-") as temporary:
            return _made_files(made, steps, Path(temporary))
    except SettingsError as error:
        if isinstance(error.__cause__, OSError):
            raise OutputError(error.message, error.hint) from error
        raise
    except OSError as error:
        said = f"No temporary file can be written: {error.strerror or error}."
        raise OutputError(said, "Free some space on that disk.") from error


def _made_files(made: Described, steps: Sequence[Step], temporary: Path) -> list[MadeFile]:
    folder, number = OutputFolder(temporary), None
    saved: list[SavedImage] = []
    for step in steps:
        saved += folder.save(step.images, step.settings, number)
        number = number_of(saved[0])
    documents: list[SavedDocument] = folder.save_documents(
        saved, steps[-1].settings, made.kinds, trim=made.trim
    )
    found = [
        MadeFile(one.path.name, one.path.read_bytes(), _told(one), _has_alpha(one)) for one in saved
    ]
    found += [
        MadeFile(one.path.name, one.path.read_bytes(), _told(one), False) for one in documents
    ]
    return found


def _has_alpha(saved: SavedImage) -> bool:
    return saved.layer is Layer.FG and not saved.extra


def _told(saved: SavedImage | SavedDocument) -> dict[str, Any]:
    return {name: value for name, value in saved.as_dict().items() if name != "path"}


def is_transparent(files: Sequence[MadeFile]) -> bool:
    """Whether each foreground among a row's files is transparent."""
    return all(one.coverage.verdict is Verdict.TRANSPARENT for one in files if one.has_alpha)


@dataclass(frozen=True)
class Effort:
    """What a row took.

    Attributes:
        sampling: Seconds of its share of the sampling; likewise `decoding`.
        tries: How often it was tried.
        redraws: How often it was drawn again because it was not transparent.
    """

    sampling: float
    decoding: float
    tries: int
    redraws: int


def write_row(
    place: Place, request: Request, files: Sequence[MadeFile], effort: Effort
) -> dict[str, Any]:
    """Returns what is told of a row, once its files are written and read back.

    Raises:
        OutputError: A file cannot be written, or is not what was written.
    """
    told = []
    for one in files:
        name = row_file(request.id, one.name)
        place.put(name, one.data)
        there = place.get(name)
        if there != one.data:
            raise OutputError(f"{name} is not what was written.", "Check the disk.")
        more: dict[str, Any] = {"file": name, "sha256": hashlib.sha256(there).hexdigest()}
        if one.has_alpha:
            more["alpha"] = _coverage(there, name).as_dict()
        told.append(more | dict(one.told))
    times = {"sampling": round(effort.sampling, 4), "decoding": round(effort.decoding, 4)}
    row = _head(request, effort.tries) | {
        "seeds": sorted({one["seed"] for one in told if "seed" in one}),
        "files": told,
        "redraws": effort.redraws,
        "times": times,
        "error": None,
    }
    return _finish(place, row)


def write_failure(
    place: Place, request: Request, error: Mapping[str, Any], tries: int
) -> dict[str, Any]:
    """Returns what is told of a row that has failed for good, once that is written.

    Raises:
        OutputError: It cannot be written.
    """
    row = _head(request, tries) | {"seeds": [], "files": [], "redraws": 0, "times": {}}
    return _finish(place, row | {"error": dict(error)})


def _head(request: Request, tries: int) -> dict[str, Any]:
    values = dict(request.values)
    return {"id": request.id, "line": request.line, "request": values, "tries": tries}


def _finish(place: Place, row: dict[str, Any]) -> dict[str, Any]:
    row["written"] = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
    place.put(row_file(row["id"], DONE), line_of(row))
    return row


def line_of(row: Mapping[str, Any]) -> bytes:
    """Returns what is told of a row as a line of JSON."""
    return (json.dumps(row, ensure_ascii=False) + "\n").encode()


def _coverage(data: bytes, name: str) -> Coverage:
    return measure(to_u8(read_image(data, name=name)))
