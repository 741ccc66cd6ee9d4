"""Images as numpy arrays: fit, flatten, composite, pad colours, trim, convert.

An image is `h w c`, float32 in [0, 1], RGB or RGBA; names ending in `_u8` hold 0..255. RGBA is
straight (its colours are not multiplied by alpha) unless the name or docstring says premultiplied.
No function changes its input.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Any, TypeVar

import cv2
import numpy as np
import numpy.typing as npt

from ..errors import ImageSizeError, SettingsError

FloatImage = npt.NDArray[np.float32]
ImageU8 = npt.NDArray[np.uint8]
AnyImage = npt.NDArray[Any]
"""An image as it was given: `FloatImage` or `ImageU8`, of any number of channels."""
Value = TypeVar("Value", bound=np.generic)

GREY = 0.5
"""The grey that images with alpha are flattened on before the VAE sees them."""

_PYRAMID_STEP = 1.2
_AREA, _LINEAR, _LANCZOS = cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_LANCZOS4
_LANCZOS_REACH = 4
_FLOAT_SLACK = 1e-3


class ResizeMode(str, Enum):
    """How an image is brought to another size; the value is the WebUI's name for it."""

    STRETCH = "Just Resize"
    CROP = "Crop and Resize"
    FILL = "Resize and Fill"


def fit(image: npt.ArrayLike, width: int, height: int, mode: ResizeMode) -> FloatImage:
    """Returns the image at exactly `width` by `height`; unchanged if it has that size.

    `STRETCH` ignores the aspect ratio. `CROP` covers the size and cuts the sides off
    evenly. `FILL` stays inside it and repeats the outermost rows or columns, with their
    alpha, as the WebUI does. Shrinking averages areas; enlarging is Lanczos, clipped to [0, 1].

    Args:
        image: `h w c`, RGB or straight RGBA. RGBA is resampled premultiplied, so colours under
            alpha 0 never show; where the result's alpha is 0, its colour is 0.
        width: Wanted width in pixels.
        height: Wanted height in pixels.
        mode: What happens to the aspect ratio.

    Raises:
        ImageSizeError: The wanted size has no pixels.
    """
    if width < 1 or height < 1:
        raise ImageSizeError(
            f"Expected a size of at least 1 x 1, got {width} x {height}.",
            "Choose a larger width and height.",
        )
    source = np.asarray(image, dtype=np.float32)
    if source.shape[:2] == (height, width):
        return source.copy()
    mode = ResizeMode(mode)
    if mode is ResizeMode.CROP:
        return _cover(source, width, height)
    if mode is ResizeMode.FILL:
        return _contain(source, width, height)
    return _resample(source, width, height)


def _cover(image: FloatImage, width: int, height: int) -> FloatImage:
    rows, columns = image.shape[:2]
    scale = max(width / columns, height / rows)
    # Far too long images are cut in the source first, or the enlarged one could fill the memory.
    spare_y = max(0, int((rows - height / scale) / 2) - _LANCZOS_REACH)
    spare_x = max(0, int((columns - width / scale) / 2) - _LANCZOS_REACH)
    middle = image[spare_y : rows - spare_y, spare_x : columns - spare_x]
    wide = max(width, round(middle.shape[1] * scale))
    tall = max(height, round(middle.shape[0] * scale))
    top, left = (tall - height) // 2, (wide - width) // 2
    covering = _resample(middle, wide, tall)
    return covering[top : top + height, left : left + width].copy()


def _contain(image: FloatImage, width: int, height: int) -> FloatImage:
    rows, columns = image.shape[:2]
    scale = min(width / columns, height / rows)
    inner_width = min(width, max(1, round(columns * scale)))
    inner_height = min(height, max(1, round(rows * scale)))
    top, left = (height - inner_height) // 2, (width - inner_width) // 2
    below, right = height - inner_height - top, width - inner_width - left
    inner = _resample(image, inner_width, inner_height)
    return np.pad(inner, ((top, below), (left, right), (0, 0)), mode="edge")


def _resample(image: FloatImage, width: int, height: int) -> FloatImage:
    """Stretches straight RGBA premultiplied and anything else as it is."""
    if image.shape[2] != 4:
        return _resample_channels(image, width, height).clip(0, 1)
    resampled = _resample_channels(premultiply(image), width, height).clip(0, 1)
    return unpremultiply(resampled)


def _resample_channels(image: FloatImage, width: int, height: int) -> FloatImage:
    """Resizes one axis after the other: OpenCV averages areas only where both axes shrink."""
    rows, columns = image.shape[:2]
    if width != columns:
        image = _resize(image, width, rows, _AREA if width < columns else _LANCZOS)
    if height != rows:
        image = _resize(image, width, height, _AREA if height < rows else _LANCZOS)
    return image


def _resize(image: FloatImage, width: int, height: int, filter_: int) -> FloatImage:
    """Resizes `h w c` and keeps the channel axis, which OpenCV drops for one channel."""
    resized = cv2.resize(np.ascontiguousarray(image), (width, height), interpolation=filter_)
    return np.asarray(resized, dtype=np.float32).reshape(height, width, image.shape[2])


def premultiply(rgba: npt.ArrayLike) -> FloatImage:
    """Returns straight RGBA as premultiplied RGBA."""
    straight = np.asarray(rgba, dtype=np.float32)
    alpha = straight[..., 3:]
    return np.concatenate([straight[..., :3] * alpha, alpha], axis=2)


def unpremultiply(rgba_premultiplied: npt.ArrayLike) -> FloatImage:
    """Returns premultiplied RGBA as straight RGBA, colours clipped to [0, 1], 0 at alpha 0."""
    source = np.asarray(rgba_premultiplied, dtype=np.float32)
    return _divide(source[..., :3], source[..., 3:])


def _divide(rgb_premultiplied: FloatImage, alpha: FloatImage) -> FloatImage:
    rgb = np.zeros_like(rgb_premultiplied)
    # Clipping the dividend keeps the quotient finite for the smallest alphas.
    np.divide(np.minimum(rgb_premultiplied, alpha), alpha, out=rgb, where=alpha > 0)
    return np.concatenate([rgb.clip(0, 1), alpha], axis=2)


def flatten(rgba: npt.ArrayLike, colour: float | Sequence[float] = GREY) -> FloatImage:
    """Returns straight RGBA over one colour, as RGB.

    Args:
        rgba: `h w 4`, straight.
        colour: A grey, or red, green and blue, in [0, 1].
    """
    straight = np.asarray(rgba, dtype=np.float32)
    alpha = straight[..., 3:]
    return straight[..., :3] * alpha + np.asarray(colour, dtype=np.float32) * (1 - alpha)


def composite(fg_rgba: npt.ArrayLike, background: npt.ArrayLike) -> FloatImage:
    """Returns a transparent image laid over another: the "over" operator.

    Args:
        fg_rgba: `h w 4`, straight.
        background: RGB or straight RGBA of the same size; the result is of the same kind. Where
            both are fully transparent, the result's colour is 0.

    Raises:
        ImageSizeError: The two differ in size.
    """
    fg = np.asarray(fg_rgba, dtype=np.float32)
    bg = np.asarray(background, dtype=np.float32)
    if fg.shape[:2] != bg.shape[:2]:
        raise ImageSizeError(
            f"Expected a background of {fg.shape[1]} x {fg.shape[0]}, "
            f"got {bg.shape[1]} x {bg.shape[0]}.",
            "Bring both images to one size.",
        )
    alpha = fg[..., 3:]
    if bg.shape[2] == 3:
        return fg[..., :3] * alpha + bg * (1 - alpha)
    shown = premultiply(bg) * (1 - alpha)
    return unpremultiply(premultiply(fg) + shown)


def pad_colours(rgba: npt.ArrayLike) -> FloatImage:
    """Returns the image with a defined colour everywhere, the same alpha, straight RGBA.

    Colours under low alpha become a smooth continuation of the visible ones around them, which is
    what the transparent encoder was trained on. Colours at alpha 1 stay as they are; a fully
    transparent image becomes grey.

    Args:
        rgba: `h w 4`, straight; colours under alpha 0 are ignored.

    Source: the LayerDiffuse paper, arXiv:2402.17113, "padded RGB".
    """
    straight = np.asarray(rgba, dtype=np.float32)
    levels = _premultiplied_pyramid(straight)
    rgb = _mean_colour(levels[-1])
    for level in reversed(levels):
        rows, columns = level.shape[:2]
        rgb = _resize(rgb, columns, rows, _LINEAR)
        rgb = level[..., :3] + rgb * (1 - level[..., 3:])
    return np.concatenate([rgb.clip(0, 1), straight[..., 3:]], axis=2)


def _premultiplied_pyramid(rgba: FloatImage) -> list[FloatImage]:
    """Returns premultiplied levels, finest first, until the shorter side is one pixel."""
    levels = [premultiply(rgba)]
    while min(levels[-1].shape[:2]) > 1:
        rows, columns = (int(side / _PYRAMID_STEP) for side in levels[-1].shape[:2])
        levels.append(_resize(levels[-1], columns, rows, _AREA))
    return levels


def _mean_colour(rgba_premultiplied: FloatImage) -> FloatImage:
    """Returns the mean of the visible colours as an image of one pixel."""
    total = rgba_premultiplied.sum(axis=(0, 1), dtype=np.float64)
    mean = total[:3] / total[3] if total[3] > 0 else np.full(3, GREY)
    return mean.astype(np.float32).reshape(1, 1, 3)


def checkerboard(
    width: int, height: int, cell: int = 64, greys: tuple[float, float] = (0.45, 0.55)
) -> FloatImage:
    """Returns an RGB checkerboard; the first grey is that of the top left cell."""
    odd = (np.arange(height)[:, None] // cell + np.arange(width)[None, :] // cell) % 2
    grey = np.asarray(greys, dtype=np.float32)[odd]
    return np.repeat(grey[..., None], 3, axis=2)


def trim(rgba: npt.NDArray[Value]) -> tuple[npt.NDArray[Value], tuple[int, int]]:
    """Returns the image cut to the bounds of alpha > 0, and where its top left corner was (x, y).

    A fully transparent image comes back whole, at (0, 0).

    Args:
        rgba: `h w 4`, straight or premultiplied, float or 0..255.
    """
    visible = rgba[..., 3].astype(bool)
    if not visible.any():
        return rgba.copy(), (0, 0)
    ys, xs = np.flatnonzero(visible.any(axis=1)), np.flatnonzero(visible.any(axis=0))
    return rgba[ys[0] : ys[-1] + 1, xs[0] : xs[-1] + 1].copy(), (int(xs[0]), int(ys[0]))


def matte(rgba: npt.ArrayLike) -> FloatImage:
    """Returns alpha as a grey RGB image."""
    return np.repeat(np.asarray(rgba, dtype=np.float32)[..., 3:], 3, axis=2)


def to_u8(image: npt.ArrayLike) -> ImageU8:
    """Returns an image in [0, 1] as 0..255, rounded and clipped."""
    scaled: FloatImage = np.asarray(image, dtype=np.float32).clip(0, 1) * 255
    return scaled.round().astype(np.uint8)


def from_u8(image_u8: npt.NDArray[np.uint8]) -> FloatImage:
    """Returns an image in 0..255 as float32 in [0, 1]."""
    return np.asarray(image_u8).astype(np.float32) / np.float32(255)


def as_rgba(image: object, *, field: str | None = None) -> FloatImage:
    """Returns any image array as straight RGBA, float32 in [0, 1]; opaque if it has no alpha.

    Args:
        image: `h w` or `h w 1` grey, `h w 3` RGB or `h w 4` straight RGBA; uint8, or float in
            [0, 1].
        field: Name of the setting that holds the image, for the error.

    Raises:
        SettingsError: It is anything else.
    """
    array = _as_float(image, field)
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or array.size == 0:
        raise _not_an_image(f"an array of shape {array.shape}", field)
    if array.shape[2] == 4:
        return array
    rgb = np.repeat(array, 3, axis=2) if array.shape[2] == 1 else array
    return np.concatenate([rgb, np.ones_like(rgb[..., :1])], axis=2)


def _as_float(image: object, field: str | None) -> FloatImage:
    if not isinstance(image, np.ndarray):
        raise _not_an_image(f"a {type(image).__name__}", field)
    if image.dtype == np.uint8:
        return from_u8(image)
    if not np.issubdtype(image.dtype, np.floating):
        raise _not_an_image(f"an array of {image.dtype}", field)
    if not ((image >= -_FLOAT_SLACK) & (image <= 1 + _FLOAT_SLACK)).all():
        raise _not_an_image(f"values from {image.min()} to {image.max()}", field)
    return image.astype(np.float32).clip(0, 1)


def _not_an_image(what: str, field: str | None) -> SettingsError:
    return SettingsError(
        f"Expected a grey, RGB or RGBA image in 0..255 or [0, 1], got {what}.",
        "Give an ordinary image, for instance a PNG file.",
        field=field,
    )
