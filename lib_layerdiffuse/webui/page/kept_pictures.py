"""The pictures that layers were made from: kept for later, and put back by pasting an infotext."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
from modules import paths_internal, shared
from PIL import Image

from ...errors import PictureStoreError
from ...imaging.images import Picture
from ...imaging.kept import PictureStore, is_picture_hash
from ...methods import Layer
from ...settings.infotext import pictures_of

if TYPE_CHECKING:
    from ...ui.panel import Panel
    from ..job.job import Job

FOLDER = "layerdiffuse-pictures"
OPTION = "layerdiffuse_keep_pictures"
_log = logging.getLogger(__name__)


def store() -> PictureStore:
    """Returns the store in the WebUI's output folder; nothing is read or written yet."""
    return PictureStore(Path(paths_internal.default_output_dir) / FOLDER)


def keep(p: Any, job: Job) -> dict[Layer, str]:
    """Keeps the pictures that a job was given, unless the user turned that off.

    A job goes on where they cannot be kept, with a note.

    Returns:
        The name of each kept picture.
    """
    given = {layer: job.settings.picture(layer) for layer in job.settings.method.inputs}
    named = {
        layer: keep_picture(picture, partial(job.note, p))
        for layer, picture in given.items()
        if picture is not None
    }
    return {layer: name for layer, name in named.items() if name is not None}


def keep_picture(picture: Picture, note: Callable[[str], None]) -> str | None:
    """Returns the name under which a picture is kept; None if it is not, which may be noted."""
    if not getattr(shared.opts, OPTION, True):
        return None
    try:
        return store().keep(picture)
    except PictureStoreError as error:
        note(f"pasting will not bring the pictures back. {error}")
        return None


def paste_fields(panel: Panel) -> list[tuple[Any, Callable[[Mapping[str, str]], Any]]]:
    """Returns the picture slots of a panel with what an infotext puts into them."""
    return [(panel.component(f"{layer.value}_image"), partial(_pasted, layer)) for layer in Layer]


def _pasted(layer: Layer, params: Mapping[str, str]) -> Any:
    """Returns the change of a slot, or None to leave it as it is.

    An infotext that names a picture which is not here empties the slot, since any other picture in
    it would be wrong. One that only says there was a picture leaves the user's own in it.
    """
    given = pictures_of(params)
    if layer not in given:
        return None
    name, slot = given[layer], f"the {layer.label} slot"
    if name is None:
        _tell("Info", f"This infotext came without its pictures. Put the one for {slot} in it.")
        return None
    return load(name, slot)


def load(name: str, slot: str) -> Any:
    """Returns the change that puts a kept picture into a slot, or empties it, with a notice."""
    picture = store().load(name)
    if picture is None:
        called = f" ({name[:12]}…)" if is_picture_hash(name) else ""
        _tell("Warning", f"The picture for {slot} is not kept here{called}. Put it in the slot.")
        return gr.update(value=None)
    return gr.update(value=Image.fromarray(picture))


def _tell(kind: str, text: str) -> None:
    """Shows a notice on the page, where its gradio has such."""
    _log.info("LayerDiffuse: %s", text)
    show = getattr(gr, kind, None)
    if show is not None:
        show(f"LayerDiffuse: {text}")
