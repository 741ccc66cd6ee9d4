"""What pasting an infotext puts into the picture slots: the pictures that were kept."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import gradio as gr
from PIL import Image

from ...imaging.kept import is_picture_hash
from ...methods import Layer
from ...settings.infotext import pictures_of
from ...ui.panel import Panel
from ..job.kept_images import store

_log = logging.getLogger(__name__)


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
