"""What pasting an infotext puts into the image slots: the images that were kept."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import gradio as gr
from PIL import Image

from ...imaging.kept import is_image_hash
from ...methods import Layer
from ...settings.infotext import images_of
from ...ui.panel import Panel
from ..job.kept_images import store

_log = logging.getLogger(__name__)


def paste_fields(panel: Panel) -> list[tuple[Any, Callable[[Mapping[str, str]], Any]]]:
    """Returns the image slots of a panel with what an infotext puts into them."""
    return [(panel.component(f"{layer.value}_image"), partial(_pasted, layer)) for layer in Layer]


def _pasted(layer: Layer, params: Mapping[str, str]) -> Any:
    """Returns the change of a slot, or None to leave it as it is.

    An infotext that names an image which is not here empties the slot, since any other image in
    it would be wrong. One that only says there was an image leaves the user's own in it.
    """
    given = images_of(params)
    if layer not in given:
        return None
    name, slot = given[layer], f"the {layer.label} slot"
    if name is None:
        _tell("Info", f"This infotext came without its images. Put the one for {slot} in it.")
        return None
    return load(name, slot)


def load(name: str, slot: str) -> Any:
    """Returns the change that puts a kept image into a slot, or empties it, with a notice."""
    image = store().load(name)
    if image is None:
        called = f" ({name[:12]}…)" if is_image_hash(name) else ""
        _tell("Warning", f"The image for {slot} is not kept here{called}. Put it in the slot.")
        return gr.update(value=None)
    return gr.update(value=Image.fromarray(image))


def _tell(kind: str, text: str) -> None:
    """Shows a notice on the page, where its gradio has such."""
    _log.info("LayerDiffuse: %s", text)
    show = getattr(gr, kind, None)
    if show is not None:
        show(f"LayerDiffuse: {text}")
