"""Pictures as numpy arrays: fit, flatten, composite, pad colours, trim, convert.

A picture is `h w c`, float32 in [0, 1], RGB or RGBA; names ending in `_u8` hold 0..255. RGBA is
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

Picture = npt.NDArray[np.float32]
PictureU8 = npt.NDArray[np.uint8]
AnyPicture = npt.NDArray[Any]
"""A picture as it was given: `Picture` or `PictureU8`, of any number of channels."""
Value = TypeVar("Value", bound=np.generic)

GREY = 0.5
"""The grey that pictures with alpha are flattened on before the VAE sees them."""

_PYRAMID_STEP = 1.2
_AREA, _LINEAR, _LANCZOS = cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_LANCZOS4
_LANCZOS_REACH = 4
_FLOAT_SLACK = 1e-3


class ResizeMode(str, Enum):
    """How a picture is brought to another size; the value is the WebUI's name for it."""

    STRETCH = "Just Resize"
    CROP = "Crop and Resize"
    FILL = "Resize and Fill"


def fit(picture: npt.ArrayLike, width: int, height: int, mode: ResizeMode) -> Picture:
    """Returns the picture at exactly `width` by `height`; unchanged if it has that size.

    `STRETCH` ignores the aspect ratio. `CROP` covers the size and cuts the sides off
    evenly. `FILL` stays inside it and repeats the outermost rows or columns, with their
    alpha, as the WebUI does. Shrinking averages areas; enlarging is Lanczos, clipped to [0, 1].

    Args:
        picture: `h w c`, RGB or straight RGBA. RGBA is resampled premultiplied, so colours under
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
    source = np.asarray(picture, dtype=np.float32)
    if source.shape[:2] == (height, width):
        return source.copy()
    mode = ResizeMode(mode)
    if mode is ResizeMode.CROP:
        return _cover(source, width, height)
    if mode is ResizeMode.FILL:
        return _contain(source, width, height)
    return _resample(source, width, height)


def _cover(picture: Picture, width: int, height: int) -> Picture:
    rows, columns = picture.shape[:2]
    scale = max(width / columns, height / rows)
    # Far too long pictures are cut in the source first, or the enlarged one could fill the memory.
    spare_y = max(0, int((rows - height / scale) / 2) - _LANCZOS_REACH)
    spare_x = max(0, int((columns - width / scale) / 2) - _LANCZOS_REACH)
    middle = picture[spare_y : rows - spare_y, spare_x : columns - spare_x]
    wide = max(width, round(middle.shape[1] * scale))
    tall = max(height, round(middle.shape[0] * scale))
    top, left = (tall - height) // 2, (wide - width) // 2
    covering = _resample(middle, wide, tall)
    return covering[top : top + height, left : left + width].copy()


def _contain(picture: Picture, width: int, height: int) -> Picture:
    rows, columns = picture.shape[:2]
    scale = min(width / columns, height / rows)
    inner_width = min(width, max(1, round(columns * scale)))
    inner_height = min(height, max(1, round(rows * scale)))
    top, left = (height - inner_height) // 2, (width - inner_width) // 2
    below, right = height - inner_height - top, width - inner_width - left
    inner = _resample(picture, inner_width, inner_height)
    return np.pad(inner, ((top, below), (left, right), (0, 0)), mode="edge")


def _resample(picture: Picture, width: int, height: int) -> Picture:
    """Stretches straight RGBA premultiplied and anything else as it is."""
    if picture.shape[2] != 4:
        return _resample_channels(picture, width, height).clip(0, 1)
    resampled = _resample_channels(premultiply(picture), width, height).clip(0, 1)
    return unpremultiply(resampled)


def _resample_channels(picture: Picture, width: int, height: int) -> Picture:
    """Resizes one axis after the other: OpenCV averages areas only where both axes shrink."""
    rows, columns = picture.shape[:2]
    if width != columns:
        picture = _resize(picture, width, rows, _AREA if width < columns else _LANCZOS)
    if height != rows:
        picture = _resize(picture, width, height, _AREA if height < rows else _LANCZOS)
    return picture


def _resize(picture: Picture, width: int, height: int, filter_: int) -> Picture:
    """Resizes `h w c` and keeps the channel axis, which OpenCV drops for one channel."""
    resized = cv2.resize(np.ascontiguousarray(picture), (width, height), interpolation=filter_)
    return np.asarray(resized, dtype=np.float32).reshape(height, width, picture.shape[2])


def premultiply(rgba: npt.ArrayLike) -> Picture:
    """Returns straight RGBA as premultiplied RGBA."""
    straight = np.asarray(rgba, dtype=np.float32)
    alpha = straight[..., 3:]
    return np.concatenate([straight[..., :3] * alpha, alpha], axis=2)


def unpremultiply(rgba_premultiplied: npt.ArrayLike) -> Picture:
    """Returns premultiplied RGBA as straight RGBA, colours clipped to [0, 1], 0 at alpha 0."""
    source = np.asarray(rgba_premultiplied, dtype=np.float32)
    return _divide(source[..., :3], source[..., 3:])


def _divide(rgb_premultiplied: Picture, alpha: Picture) -> Picture:
    rgb = np.zeros_like(rgb_premultiplied)
    # Clipping the dividend keeps the quotient finite for the smallest alphas.
    np.divide(np.minimum(rgb_premultiplied, alpha), alpha, out=rgb, where=alpha > 0)
    return np.concatenate([rgb.clip(0, 1), alpha], axis=2)


def flatten(rgba: npt.ArrayLike, colour: float | Sequence[float] = GREY) -> Picture:
    """Returns straight RGBA over one colour, as RGB.

    Args:
        rgba: `h w 4`, straight.
        colour: A grey, or red, green and blue, in [0, 1].
    """
    straight = np.asarray(rgba, dtype=np.float32)
    alpha = straight[..., 3:]
    return straight[..., :3] * alpha + np.asarray(colour, dtype=np.float32) * (1 - alpha)


def composite(fg_rgba: npt.ArrayLike, background: npt.ArrayLike) -> Picture:
    """Returns a transparent picture laid over another: the "over" operator.

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
            "Bring both pictures to one size.",
        )
    alpha = fg[..., 3:]
    if bg.shape[2] == 3:
        return fg[..., :3] * alpha + bg * (1 - alpha)
    shown = premultiply(bg) * (1 - alpha)
    return unpremultiply(premultiply(fg) + shown)


def pad_colours(rgba: npt.ArrayLike) -> Picture:
    """Returns the picture with a defined colour everywhere, the same alpha, straight RGBA.

    Colours under low alpha become a smooth continuation of the visible ones around them, which is
    what the transparent encoder was trained on. Colours at alpha 1 stay as they are; a fully
    transparent picture becomes grey.

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


def _premultiplied_pyramid(rgba: Picture) -> list[Picture]:
    """Returns premultiplied levels, finest first, until the shorter side is one pixel."""
    levels = [premultiply(rgba)]
    while min(levels[-1].shape[:2]) > 1:
        rows, columns = (int(side / _PYRAMID_STEP) for side in levels[-1].shape[:2])
        levels.append(_resize(levels[-1], columns, rows, _AREA))
    return levels


def _mean_colour(rgba_premultiplied: Picture) -> Picture:
    """Returns the mean of the visible colours as a picture of one pixel."""
    total = rgba_premultiplied.sum(axis=(0, 1), dtype=np.float64)
    mean = total[:3] / total[3] if total[3] > 0 else np.full(3, GREY)
    return mean.astype(np.float32).reshape(1, 1, 3)


def checkerboard(
    width: int, height: int, cell: int = 64, greys: tuple[float, float] = (0.45, 0.55)
) -> Picture:
    """Returns an RGB checkerboard; the first grey is that of the top left cell."""
    odd = (np.arange(height)[:, None] // cell + np.arange(width)[None, :] // cell) % 2
    grey = np.asarray(greys, dtype=np.float32)[odd]
    return np.repeat(grey[..., None], 3, axis=2)


def trim(rgba: npt.NDArray[Value]) -> tuple[npt.NDArray[Value], tuple[int, int]]:
    """Returns the picture cut to the bounds of alpha > 0, and where its top left corner was (x, y).

    A fully transparent picture comes back whole, at (0, 0).

    Args:
        rgba: `h w 4`, straight or premultiplied, float or 0..255.
    """
    visible = rgba[..., 3].astype(bool)
    if not visible.any():
        return rgba.copy(), (0, 0)
    ys, xs = np.flatnonzero(visible.any(axis=1)), np.flatnonzero(visible.any(axis=0))
    return rgba[ys[0] : ys[-1] + 1, xs[0] : xs[-1] + 1].copy(), (int(xs[0]), int(ys[0]))


def matte(rgba: npt.ArrayLike) -> Picture:
    """Returns alpha as a grey RGB picture."""
    return np.repeat(np.asarray(rgba, dtype=np.float32)[..., 3:], 3, axis=2)


def to_u8(picture: npt.ArrayLike) -> PictureU8:
    """Returns a picture in [0, 1] as 0..255, rounded and clipped."""
    scaled: Picture = np.asarray(picture, dtype=np.float32).clip(0, 1) * 255
    return scaled.round().astype(np.uint8)


def from_u8(picture_u8: npt.NDArray[np.uint8]) -> Picture:
    """Returns a picture in 0..255 as float32 in [0, 1]."""
    return np.asarray(picture_u8).astype(np.float32) / np.float32(255)


def as_rgba(picture: object, *, field: str | None = None) -> Picture:
    """Returns any picture array as straight RGBA, float32 in [0, 1]; opaque if it has no alpha.

    Args:
        picture: `h w` or `h w 1` grey, `h w 3` RGB or `h w 4` straight RGBA; uint8, or float in
            [0, 1].
        field: Name of the setting that holds the picture, for the error.

    Raises:
        SettingsError: It is anything else.
    """
    array = _as_float(picture, field)
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or array.size == 0:
        raise _not_a_picture(f"an array of shape {array.shape}", field)
    if array.shape[2] == 4:
        return array
    rgb = np.repeat(array, 3, axis=2) if array.shape[2] == 1 else array
    return np.concatenate([rgb, np.ones_like(rgb[..., :1])], axis=2)


def _as_float(picture: object, field: str | None) -> Picture:
    if not isinstance(picture, np.ndarray):
        raise _not_a_picture(f"a {type(picture).__name__}", field)
    if picture.dtype == np.uint8:
        return from_u8(picture)
    if not np.issubdtype(picture.dtype, np.floating):
        raise _not_a_picture(f"an array of {picture.dtype}", field)
    if not ((picture >= -_FLOAT_SLACK) & (picture <= 1 + _FLOAT_SLACK)).all():
        raise _not_a_picture(f"values from {picture.min()} to {picture.max()}", field)
    return picture.astype(np.float32).clip(0, 1)


def _not_a_picture(what: str, field: str | None) -> SettingsError:
    return SettingsError(
        f"Expected a grey, RGB or RGBA picture in 0..255 or [0, 1], got {what}.",
        "Give an ordinary picture, for instance a PNG file.",
        field=field,
    )
