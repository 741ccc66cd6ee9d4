"""Each set's layers in one file, beside its images, as the settings page asks for them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ...documents.document import Document
from ...documents.kinds import DocumentKind
from ...documents.layer_set import document_of
from ...documents.writing import write_document
from ...errors import LayerDiffuseError
from ...methods import Layer
from ...settings.layer_settings import LayerSettings
from .job import Job
from .notes import tell

Set = dict[Layer, Image.Image]


def add_layer_files(p: Any, job: Job, processed: Any) -> list[Path]:
    """Returns the files that were written for a job that is done; none if none are wanted.

    The user is told their names. The images are there already, so what goes wrong here is told
    and ends nothing.

    Args:
        p: The host's processing object.
        job: The job, with its results.
        processed: The host's result, whose comments stand below the images.
    """
    paths: list[Path] = []
    try:
        if not job.choices.files:
            return []
        paths += write_sets(job, job.choices.files)
        for text in _left_out(job):
            job.notes.append(text)
            tell(processed, text)
        if paths:
            tell(processed, f"layers saved as {', '.join(path.name for path in paths)}")
        elif not getattr(p, "is_api", False) and not job.undecoded:
            tell(processed, "no layer files, since no images are saved.")
    except LayerDiffuseError as error:
        job.notes.append(str(error))
        tell(processed, f"no layer files: {error}")
    return paths


def write_sets(job: Job, kinds: Sequence[DocumentKind]) -> list[Path]:
    """Returns the files that were written: each saved set of a job, in each of the kinds.

    A file stands beside the set's first saved image and has its name, with "layers" in the
    layer's place. What the method was given and did not make is a layer, too. A set whose
    foreground has no transparency yet has none.

    Raises:
        SettingsError: Nothing can be written there.
    """
    sets = list(_sets(job))
    paths = []
    for number, of_set in enumerate(sets, 1):
        name = _name_beside(of_set)
        if name is None or _is_undecoded(of_set):
            continue
        document = _document(of_set, job.settings, number if len(sets) > 1 else None)
        paths += [write_document(name, document, kind) for kind in kinds]
    return paths


def write_set(of_set: Set, kind: DocumentKind, folder: Path) -> Path:
    """Returns the new file in a folder that holds one set, with the name that it has elsewhere.

    Raises:
        SettingsError: Nothing can be written there.
        ImageSizeError: The layers differ in size, or are too large for the kind.
    """
    name = _name_beside(of_set)
    return write_document(folder / (name.name if name else "layers"), _document(of_set), kind)


def _is_undecoded(of_set: Set) -> bool:
    """Whether a set's foreground is what the VAE made, to be made transparent later."""
    return Layer.FG in of_set and of_set[Layer.FG].mode != "RGBA"


def _left_out(job: Job) -> Iterator[str]:
    """Yields a sentence for each saved set that has no file."""
    latents = {id(one.image): one.path for one in job.undecoded}
    for number, of_set in enumerate(_sets(job), 1):
        if _is_undecoded(of_set) and _name_beside(of_set) is not None:
            path = latents.get(id(of_set[Layer.FG]))
            where = f": its latent stands in {path.name}" if path else ""
            yield f"no layer file of set {number}, whose foreground stays RGB{where}."


def _document(
    of_set: Set, settings: LayerSettings | None = None, number: int | None = None
) -> Document:
    return document_of(
        {layer: _pixels(image) for layer, image in of_set.items()},
        settings,
        number=number,
        infotexts={layer: _infotext(image) for layer, image in of_set.items()},
    )


def _sets(job: Job) -> Iterator[Set]:
    """Yields the job's whole sets in order."""
    layers = {layer.value: layer for layer in Layer}
    made = [(layers[name], image) for image, name in job.results if name in layers]
    frames = job.settings.method.frames
    for start in range(0, len(made) - frames + 1, frames):
        yield dict(made[start : start + frames])


def _name_beside(of_set: Set) -> Path | None:
    """Returns the name for a set's file, without its ending; None where no image is saved."""
    for layer, image in of_set.items():
        saved = getattr(image, "already_saved_as", None)  # The host notes it there.
        if saved:
            path = Path(saved)
            # The host may have put a number behind a name that was taken.
            stem = re.sub(rf"-{layer.value}(-\d+)?$", r"\1", path.stem)
            return path.with_name(f"{stem}-layers")
    return None


def _pixels(image: Image.Image) -> Any:
    return np.asarray(image if image.mode == "RGBA" else image.convert("RGB"))


def _infotext(image: Image.Image) -> str:
    return str(image.info.get("parameters", ""))
