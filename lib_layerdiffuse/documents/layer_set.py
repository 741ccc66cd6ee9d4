"""One set of layers as a document."""

from __future__ import annotations

from collections.abc import Mapping

from ..errors import ImageSizeError, SettingsError
from ..imaging.images import ImageU8
from ..methods import Layer
from ..outputs import with_given
from ..settings.layer_settings import LayerSettings
from .document import Document, DocumentLayer

_BOTTOM_TO_TOP = (Layer.BG, Layer.FG, Layer.BLENDED)


def document_of(
    made: Mapping[Layer, ImageU8],
    settings: LayerSettings | None = None,
    *,
    number: int | None = None,
    infotexts: Mapping[Layer, str] | None = None,
) -> Document:
    """Returns a set as a document: background, foreground above it, blended image on top.

    The layers are called Background, Foreground and Blended. The blended image is hidden where
    foreground and background are both there, since these make the image by themselves.

    Args:
        made: `H W 3|4` each, uint8, straight alpha, all of one size.
        settings: Those of the run that made them: what it was given and did not make is a layer,
            too. None where the set is whole.
        number: The set's, put behind the names; None where there is only one set.
        infotexts: The settings that made them.

    Raises:
        SettingsError: There is no image.
        ImageSizeError: The images differ in size.
    """
    if not made:
        raise SettingsError("Expected at least one layer, got none.", "Give a layer.")
    images = made if settings is None else with_given(made, settings)
    sizes = {layer: image.shape[:2] for layer, image in images.items()}
    if len(set(sizes.values())) > 1:
        got = ", ".join(f"{layer.value} {size[1]} x {size[0]}" for layer, size in sizes.items())
        raise ImageSizeError(f"The layers differ in size: {got}.", "Bring all of them to one size.")
    height, width = next(iter(sizes.values()))
    hidden = {Layer.BLENDED} if {Layer.FG, Layer.BG} <= set(images) else set()
    suffix = "" if number is None else f" {number}"
    layers = tuple(
        DocumentLayer(
            layer.label + suffix,
            images[layer],
            visible=layer not in hidden,
            infotext=(infotexts or {}).get(layer, ""),
        )
        for layer in _BOTTOM_TO_TOP
        if layer in images
    )
    return Document(width, height, layers)
