"""What went wrong with an image's alpha, and with its colours where they are seen.

Images are `h w 4`, straight RGBA, float in [0, 1]. A figure of pixels that are not there is NaN.
"""

from __future__ import annotations

import numpy as np

from ..imaging.images import FloatImage
from .matting import SOLID


def soft_iou(seen: FloatImage, truth: FloatImage) -> float:
    """Returns Σ min / Σ max of two alphas: the intersection over union of soft sets.

    Two that are empty are alike: 1.
    """
    union = float(np.maximum(seen, truth).sum())
    return float(np.minimum(seen, truth).sum()) / union if union > 0 else 1.0


def haze(seen: FloatImage, truth: FloatImage) -> float:
    """Returns the mean alpha, 0..255, where it should be 0."""
    clear = truth[..., 3] == 0
    return 255 * float(seen[..., 3][clear].mean()) if clear.any() else float("nan")


def kept_solid(seen: FloatImage, truth: FloatImage) -> float:
    """Returns which share of the opaque pixels is still solid, in percent."""
    opaque = truth[..., 3] == 1
    return 100 * float((seen[..., 3][opaque] >= SOLID).mean()) if opaque.any() else float("nan")


def colour_error(seen: FloatImage, truth: FloatImage) -> float:
    """Returns the mean absolute error of the straight colours, 0..255, weighted by true alpha."""
    return _seen_mean(np.abs(seen[..., :3] - truth[..., :3]).mean(axis=2), truth)


def red_cast(seen: FloatImage, truth: FloatImage) -> float:
    """Returns how much more red was added than green and blue, 0..255, weighted by true alpha."""
    added = seen[..., :3] - truth[..., :3]
    return _seen_mean(added[..., 0] - added[..., 1:].mean(axis=2), truth)


def _seen_mean(error: FloatImage, truth: FloatImage) -> float:
    alpha = truth[..., 3]
    total = alpha.sum(dtype=np.float64)
    return 255 * float((error * alpha).sum(dtype=np.float64) / total) if total > 0 else float("nan")
