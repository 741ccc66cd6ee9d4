"""Straight colours where alpha does not say them, or where something edited the image.

An image is `h w c`, float32 in [0, 1], RGBA straight. No function changes its input.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .images import FloatImage, ResizeMode, fit, pad_colours

_HIDDEN = 0.05
"""Alpha below which a pixel shows what is behind the subject."""

_LEAST_ALPHA = 0.2
"""Alpha by which an edit is divided at least, so that rounding does not grow."""


def fill_hidden(rgba: npt.ArrayLike) -> FloatImage:
    """Returns the image with its colours continued where alpha is 0; all else stays.

    Args:
        rgba: `h w 4`, straight.
    """
    straight = np.asarray(rgba, dtype=np.float32)
    return np.where(straight[..., 3:] > 0, straight, pad_colours(straight))


def follow_edit(rgba: npt.ArrayLike, before: npt.ArrayLike, after: npt.ArrayLike) -> FloatImage:
    """Returns a transparent image whose colours follow an edit of the one it was decoded from.

    Alpha stays as it is. The image shows the subject over a plain background, so of an edit a
    share of 1 - alpha was done to the background; what was done to it is seen where alpha is 0.
    The rest, divided by alpha, was done to the subject. This is exact for edits that change each
    value by a factor and an offset.

    Args:
        rgba: `h w 4`, straight.
        before: `h w 3`, the image that it was decoded from.
        after: `H W 3`, the edited image; where its size differs, all is stretched to it.
    """
    straight, old, new = (np.asarray(x, dtype=np.float32) for x in (rgba, before, after))
    height, width = new.shape[:2]
    if old.shape != new.shape:
        straight = fill_hidden(fit(straight, width, height, ResizeMode.STRETCH))
        old = fit(old, width, height, ResizeMode.STRETCH)
    alpha, edit = straight[..., 3:], new - old
    hidden = alpha[..., 0] < _HIDDEN
    of_background = np.median(edit[hidden], axis=0) if hidden.any() else np.float32(0)
    of_subject = (edit - (1 - alpha) * of_background) / np.maximum(alpha, _LEAST_ALPHA)
    rgb = (straight[..., :3] + of_subject).clip(0, 1)
    followed: FloatImage = np.concatenate([rgb, alpha], axis=2).astype(np.float32)
    return followed
