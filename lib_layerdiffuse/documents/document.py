"""An image in layers, before it is a file."""

from __future__ import annotations

import math
import unicodedata
from dataclasses import dataclass, replace

import numpy as np

from ..errors import ImageSizeError, SettingsError
from ..imaging.images import FloatImage, ImageU8, as_rgba, composite, to_u8, trim

_OPAQUE = 255
_NO_CHARACTERS = ("Cc", "Cs")
"""Categories that XML cannot hold, or that no list of layers could show."""


@dataclass(frozen=True, eq=False)
class DocumentLayer:
    """One layer.

    Attributes:
        name: Any characters but control characters.
        image: `h w 3|4`, uint8, straight alpha. Colours under alpha 0 are kept as they are.
        left: Columns from the canvas's left edge, negative for outside; likewise `top`.
        visible: Whether it is shown when the file is opened.
        opacity: Multiplies alpha, in [0, 1].
        infotext: The settings that made it; empty for none.

    Raises:
        SettingsError: The name or the opacity cannot be written.
        ImageSizeError: The image has no pixels, or is none.
    """

    name: str
    image: ImageU8
    left: int = 0
    top: int = 0
    visible: bool = True
    opacity: float = 1.0
    infotext: str = ""

    def __post_init__(self) -> None:
        if not self.name or any(map(_is_unwritable, self.name)):
            raise SettingsError(
                f"Expected a layer name without control characters, got {self.name!r}.",
                "Choose another name.",
            )
        if not (math.isfinite(self.opacity) and 0 <= self.opacity <= 1):
            raise SettingsError(
                f"Expected an opacity from 0 to 1, got {self.opacity}.", "Bring it into that range."
            )
        shape, kind = self.image.shape, self.image.dtype
        if kind != np.uint8 or len(shape) != 3 or shape[2] not in (3, 4) or 0 in shape:
            raise ImageSizeError(
                f"Expected RGB or RGBA in 0..255 for the layer {self.name}, "
                f"got {kind} {list(shape)}.",
                "Give an image with pixels, as 8-bit numbers.",
            )

    @property
    def width(self) -> int:
        """Columns of the image."""
        return int(self.image.shape[1])

    @property
    def height(self) -> int:
        """Rows of the image."""
        return int(self.image.shape[0])

    @property
    def has_alpha(self) -> bool:
        """Whether the image has a channel for alpha."""
        return bool(self.image.shape[2] == 4)

    def trimmed(self) -> DocumentLayer:
        """Returns the layer cut to the bounds of alpha > 0; whole where nothing is visible."""
        if not self.has_alpha:
            return self
        image, (left, top) = trim(self.image)
        return replace(self, image=image, left=self.left + left, top=self.top + top)


@dataclass(frozen=True, eq=False)
class Document:
    """Layers on a canvas.

    Attributes:
        width: The canvas's, in pixels; likewise `height`. Layers may be larger or lie outside.
        layers: From bottom to top.

    Raises:
        ImageSizeError: The canvas has no pixels.
        SettingsError: There is no layer.
    """

    width: int
    height: int
    layers: tuple[DocumentLayer, ...]

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1:
            raise ImageSizeError(
                f"Expected a canvas of at least 1 x 1, got {self.width} x {self.height}.",
                "Choose a larger one.",
            )
        if not self.layers:
            raise SettingsError("Expected at least one layer, got none.", "Give a layer.")

    def trimmed(self) -> Document:
        """Returns the document with each layer cut to the bounds of its alpha.

        It looks the same; colours under alpha 0 outside the bounds are gone.
        """
        return replace(self, layers=tuple(layer.trimmed() for layer in self.layers))

    def merged(self) -> ImageU8:
        """Returns the visible layers over each other: `height width 4`, straight RGBA, 0..255.

        Where nothing is visible, the colour is 0.
        """
        canvas = np.zeros((self.height, self.width, 4), np.float32)
        for layer in self.layers:
            if layer.visible:
                _lay(canvas, layer)
        return to_u8(canvas)


def _lay(canvas: FloatImage, layer: DocumentLayer) -> None:
    """Puts a layer over the part of the canvas `h w 4` that it covers, in place."""
    rows, columns = canvas.shape[:2]
    top, bottom = (min(max(edge, 0), rows) for edge in (layer.top, layer.top + layer.height))
    left, right = (min(max(edge, 0), columns) for edge in (layer.left, layer.left + layer.width))
    if top >= bottom or left >= right:
        return
    part = layer.image[top - layer.top : bottom - layer.top, left - layer.left :]
    rgba = as_rgba(part[:, : right - left])
    rgba[..., 3] *= np.float32(layer.opacity)
    canvas[top:bottom, left:right] = composite(rgba, canvas[top:bottom, left:right])


def is_opaque(rgba_u8: ImageU8) -> bool:
    """Whether alpha is 255 everywhere."""
    return bool((rgba_u8[..., 3] == _OPAQUE).all())


def _is_unwritable(character: str) -> bool:
    return unicodedata.category(character) in _NO_CHARACTERS or character in "\ufffe\uffff"
