"""Documents into files: whole or not at all, and never over another file."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from pathlib import Path

from ..errors import SettingsError
from .archive import zip_bytes
from .document import Document
from .kinds import DocumentKind
from .openraster import ora_bytes
from .psd import psd_bytes

_WRITERS: dict[DocumentKind, Callable[[Document], bytes]] = {
    DocumentKind.PSD: psd_bytes,
    DocumentKind.ORA: ora_bytes,
    DocumentKind.ZIP: zip_bytes,
}


def write_document(
    path: Path, document: Document, kind: DocumentKind, *, trim: bool = False
) -> Path:
    """Writes a document and returns the path of the new file; makes the folder.

    Args:
        path: Wanted name. The kind's ending is added if it lacks it. If there is such a file, the
            next name that is free is taken: `a.psd`, `a-2.psd`, …
        document: What to write.
        kind: The kind of file.
        trim: Cut each layer to the bounds of its alpha. Otherwise every pixel is kept, colours
            under alpha 0 too.

    Raises:
        SettingsError: Nothing can be written there.
        ImageSizeError: It is too large for the kind.
    """
    data = _WRITERS[kind](document.trimmed() if trim else document)
    ending = f".{kind.value}"
    stem = path.name[: -len(ending)] if path.name.lower().endswith(ending) else path.name
    part = path.with_name(f".{stem}.{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(data)
        return _take_free_name(part, stem, ending)
    except OSError as error:
        raise SettingsError(
            f"Expected to write {path}, got: {error.strerror or error}.",
            "Choose a folder that you may write to, on a disk with space.",
        ) from error
    finally:
        with suppress(OSError):
            part.unlink()


def _take_free_name(part: Path, stem: str, ending: str) -> Path:
    """Gives a finished file the first free name beside it, and returns that."""
    for number in count(1):
        path = part.with_name(f"{stem}-{number}{ending}" if number > 1 else stem + ending)
        try:
            path.open("xb").close()  # Takes the name, so that no other program can.
        except FileExistsError:
            continue
        try:
            part.replace(path)
        except OSError:
            path.unlink()
            raise
        return path
    raise AssertionError("There is always another number.")
