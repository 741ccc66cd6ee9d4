"""What is given beside a set's layers: preview, matte, composite, RGB before alpha, given layers.

Each is made here and nowhere else. An image is `H W 3` or, with straight alpha, `H W 4`, uint8.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import fields

import numpy as np

from .imaging.images import (
    FloatImage,
    ImageU8,
    ResizeMode,
    as_rgba,
    checkerboard,
    composite,
    fit,
    flatten,
    to_u8,
)
from .imaging.images import matte as grey_of_alpha
from .methods import Layer
from .settings.layer_settings import LayerSettings

COMPOSITE = "composite"
"""What a set's foreground over its background is called in file names and answers."""

GIVEN = "given"
"""Behind the name of a layer that the method was given and did not make."""

PREVIEW, MATTE, RAW = "preview", "matte", "raw"
"""Behind the name of a layer that is shown in another way."""

SHOWS = tuple(f.name for f in fields(LayerSettings) if f.name.startswith("show_"))
"""The settings that ask for something beside the layers."""

_CELL, _FEWEST_CELLS = 64, 8
_STRIP = 256  # Rows that are put together at a time.


def asked_for(settings: LayerSettings) -> frozenset[str]:
    """Returns which of the `SHOWS` are on."""
    return frozenset(name for name in SHOWS if getattr(settings, name))


def preview(rgba: ImageU8 | FloatImage) -> ImageU8:
    """Returns an image over a checkerboard, `H W 3`.

    The cells have 64 pixels, as in the original extension; small images have smaller ones, so that
    there are always some.

    Args:
        rgba: `H W 4`, straight; uint8 or float in [0, 1].
    """
    straight = as_rgba(rgba)
    height, width = straight.shape[:2]
    cell = max(1, min(_CELL, min(width, height) // _FEWEST_CELLS))
    return to_u8(composite(straight, checkerboard(width, height, cell)))


def matte(rgba: ImageU8 | FloatImage) -> ImageU8:
    """Returns alpha as a grey image, `H W 3`."""
    return to_u8(grey_of_alpha(as_rgba(rgba)))


def foreground_extras(
    rgba: ImageU8, before_alpha: ImageU8 | None, wanted: Container[str]
) -> dict[str, ImageU8]:
    """Returns the other views of a foreground that are asked for, by name, in a fixed order.

    Args:
        rgba: The foreground, `H W 4`, straight.
        before_alpha: The same as the VAE decoded it, `H W 3`; None where that is not known.
        wanted: Names of the settings' `show_…` fields.
    """
    made: dict[str, ImageU8] = {}
    if "show_preview" in wanted:
        made[PREVIEW] = preview(rgba)
    if "show_matte" in wanted:
        made[MATTE] = matte(rgba)
    if "show_raw" in wanted and before_alpha is not None:
        made[RAW] = before_alpha
    return made


def given_layer(
    settings: LayerSettings, layer: Layer, width: int, height: int
) -> FloatImage | None:
    """Returns a layer that the method was given, at a set's size, straight RGBA; None for none.

    It is fitted as it is for the method.
    """
    given = settings.image(layer)
    if given is None:
        return None
    return fit(as_rgba(given, field=f"{layer.value}_image"), width, height, settings.resize_mode)


def with_given(made: Mapping[Layer, ImageU8], settings: LayerSettings) -> dict[Layer, ImageU8]:
    """Returns a set with those layers that the method was given and did not make itself.

    They keep their transparency; one without any is RGB.

    Args:
        made: What was made, `H W 3|4` each, straight alpha.
        settings: That run's.
    """
    height, width = next(iter(made.values())).shape[:2]
    given: dict[Layer, ImageU8] = {}
    for layer in settings.method.inputs:
        fitted = None if layer in made else given_layer(settings, layer, width, height)
        if fitted is not None:
            rgba = to_u8(fitted)
            given[layer] = rgba if (rgba[..., 3] < 255).any() else rgba[..., :3].copy()
    return {**made, **given}


def true_composite(made: Mapping[Layer, ImageU8], settings: LayerSettings) -> ImageU8 | None:
    """Returns a set's foreground over its background, `H W 3`; None where one of them is missing.

    Either may have been made or given. Transparency of the background is grey.

    Args:
        made: What was made, `H W 3|4` each, straight alpha.
        settings: That run's.
    """
    layers = with_given(made, settings)
    if not {Layer.FG, Layer.BG} <= set(layers):
        return None
    return over(layers[Layer.FG], layers[Layer.BG])


def over(layer: ImageU8 | FloatImage, background: ImageU8 | FloatImage) -> ImageU8:
    """Returns a layer over an image that covers it, `H W 3`; transparency there is grey.

    Strip by strip, so that the floats of the whole need not fit into memory.

    Args:
        layer: RGB or straight RGBA; uint8 or float in [0, 1].
        background: The same; one of another size is cropped and resized.
    """
    height, width = layer.shape[:2]
    covering = background
    if background.shape[:2] != (height, width):
        covering = fit(as_rgba(background), width, height, ResizeMode.CROP)
    made = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, _STRIP):
        rows = slice(top, top + _STRIP)
        made[rows] = to_u8(composite(as_rgba(layer[rows]), flatten(as_rgba(covering[rows]))))
    return made
