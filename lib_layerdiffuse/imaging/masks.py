"""Masks as numpy arrays `h w` in [0, 1], and what of an image they keep."""

from __future__ import annotations

from enum import Enum

import cv2
import numpy as np
import numpy.typing as npt

from ..errors import SettingsError
from .images import FloatImage, premultiply, unpremultiply

Mask = npt.NDArray[np.float32]


class MaskSource(str, Enum):
    """Which part of an init image is redrawn; the value is what the panel calls it."""

    TAB = "Inpaint area: from the tab"
    VISIBLE = "Visible part"
    TRANSPARENT = "Transparent part"


def alpha_mask(rgba: FloatImage, source: MaskSource) -> Mask:
    """Returns the mask that an image's own alpha gives: 1 is redrawn.

    Args:
        rgba: `h w 4`.
        source: The visible or the transparent part.

    Raises:
        SettingsError: The image has no such part.
    """
    alpha: Mask = rgba[..., 3]
    mask: Mask = alpha if source is MaskSource.VISIBLE else 1 - alpha
    if not mask.any():
        raise SettingsError(
            f"The init image has no {source.value.lower()}.",
            "Choose another image, or draw the mask.",
        )
    return mask


def feather(mask: Mask, radius: float) -> Mask:
    """Returns a mask with soft edges: blurred by a Gaussian of that many pixels' deviation."""
    if radius <= 0:
        return mask.copy()
    blurred = cv2.GaussianBlur(mask, (0, 0), radius, borderType=cv2.BORDER_REPLICATE)
    return np.asarray(blurred, dtype=np.float32).clip(0, 1)


def put_back(made: FloatImage, original: FloatImage, keep: Mask) -> FloatImage:
    """Returns a made image with an original where that is to be kept, straight RGBA.

    Where `keep` is 1 the original comes back as it is, with the colour under its alpha 0; where it
    is 0 the made one. Between, the two are mixed premultiplied.

    Args:
        made: `h w 4`, straight.
        original: `h w 4`, straight.
        keep: `h w`, how much of the original is kept.
    """
    share = keep[..., None]
    mixed = unpremultiply(premultiply(made) * (1 - share) + premultiply(original) * share)
    return np.where(share >= 1, original, np.where(share <= 0, made, mixed))
