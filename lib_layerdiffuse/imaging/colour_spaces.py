"""Colours of other spaces than sRGB, by what an image file says of its own.

Source: the PNG specification, third edition, 13.13, for gAMA; IEC 61966-2-1 for sRGB.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms

from .images import FloatImage, from_u8, to_u8

_SPACE = slice(16, 20)  # Where a profile says what its numbers are.
_MODES = {b"RGB ": "RGB", b"GRAY": "L", b"CMYK": "CMYK"}
_NEARLY = 2  # Levels by which a profile of sRGB may miss it.
_OWN_GAMMA, _TOLERANCE = 1 / 2.2, 0.05  # As far from it, PNG readers take gAMA for sRGB's.
_SENSIBLE = (0.1, 10.0)
_UNSHORTENED = 0x0100  # To the library; its short cut for greys is wrong by 10 levels near black.

Numbers = npt.NDArray[np.uint8]


def in_srgb(rgba: FloatImage, info: Mapping[Any, Any], kind: str | None) -> FloatImage:
    """Returns an image's colours in sRGB; alpha, and what is sRGB already, stays bit for bit.

    A profile takes colours to 8 bits. One that is damaged, or for another kind of numbers, is not
    applied.

    Args:
        rgba: Straight RGBA `h w 4` in [0, 1], as its file has it.
        info: What Pillow found in the file beside it.
        kind: Pillow's name for the kind of file; None where that is not known.
    """
    profile = info.get("icc_profile")
    if profile:
        return _by_profile(rgba, profile)
    gamma = info.get("gamma")
    if kind in ("PNG", None) and gamma and "srgb" not in info:
        return _by_gamma(rgba, float(gamma))
    return rgba


def cmyk_as_rgb(image: Image.Image) -> Image.Image:
    """Returns an image of printing colours as RGB: by its profile, or else by complement."""
    transform = _transform(image.info.get("icc_profile"), "CMYK")
    return (
        image.convert("RGB") if transform is None else Image.fromarray(_applied(transform, image))
    )


def _by_profile(rgba: FloatImage, profile: Any) -> FloatImage:
    colours_u8 = to_u8(rgba[..., :3])
    of_colours, of_greys = _transform(profile, "RGB"), _transform(profile, "L")
    if of_colours is not None:
        steps = np.linspace(0, 255, 18).astype(np.uint8)
        cube = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(1, -1, 3)
        if _near(_applied(of_colours, cube), cube):
            return rgba
        converted = _applied(of_colours, colours_u8)
    elif of_greys is not None and (colours_u8 == colours_u8[..., :1]).all():
        greys = np.arange(256, dtype=np.uint8)
        table = _applied(of_greys, greys[None])[0]
        if _near(table, greys[:, None]):
            return rgba
        converted = table[colours_u8[..., 0]]
    else:
        return rgba
    return np.concatenate([from_u8(converted), rgba[..., 3:]], axis=2)


def _near(after: Numbers, before: Numbers) -> bool:
    """Whether a transform has left colours as they are, but for rounding."""
    return bool(np.abs(after.astype(int) - before).max() <= _NEARLY)


def _transform(profile: Any, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Returns what takes numbers of a mode to sRGB; None where the profile is not for them."""
    if not isinstance(profile, bytes) or _MODES.get(profile[_SPACE]) != mode:
        return None
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        intent: Any = ImageCms.getDefaultIntent(source)
        exact: Any = _UNSHORTENED if mode == "L" else 0
        target = ImageCms.createProfile("sRGB")
        return ImageCms.buildTransform(source, target, mode, "RGB", intent, exact)
    except Exception:  # The library has no exception of its own for each damage.
        return None


def _applied(transform: ImageCms.ImageCmsTransform, pixels: Numbers | Image.Image) -> Numbers:
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    return np.asarray(ImageCms.applyTransform(image, transform))


def _by_gamma(rgba: FloatImage, gamma: float) -> FloatImage:
    """Returns colours that are a power of light as sRGB has them."""
    low, high = _SENSIBLE
    if not low <= gamma <= high or abs(gamma / _OWN_GAMMA - 1) <= _TOLERANCE:
        return rgba
    light = rgba[..., :3] ** np.float32(1 / gamma)
    curved = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.concatenate([curved.astype(np.float32), rgba[..., 3:]], axis=2)
