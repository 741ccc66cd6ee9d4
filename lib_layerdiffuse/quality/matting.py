"""The four errors by which alpha mattes are compared, in the region where alpha is hard to tell.

Alphas are `h w`, float in [0, 1]. Where the truth has no such region, an error is NaN. Units are
those of the literature: sums in thousands of pixels, the mean square error in thousandths.

Source: Rhemann et al., "A Perceptually Motivated Online Benchmark for Image Matting", CVPR 2009;
the scales and the filter as Xu et al. ("Deep Image Matting", CVPR 2017) measure, and since them
everybody.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from ..imaging.images import FloatImage

CLEAR, SOLID = 0.05, 0.95
"""Alpha up to which a pixel counts as clear, and from which it counts as solid."""

_SIGMA = 1.4
_LEAST_WEIGHT = 1e-2
"""Where the Gaussian of the gradient's filter is cut off."""

_LEVELS = 10
_THETA = 0.15
"""How much a pixel's alpha may exceed the level at which it is connected."""

Mask = npt.NDArray[np.bool_]


def unknown_region(truth: FloatImage) -> Mask:
    """Returns where the truth is neither clear nor solid: 0.05 < alpha < 0.95."""
    return (truth > CLEAR) & (truth < SOLID)


def sum_of_differences(seen: FloatImage, truth: FloatImage) -> float:
    """Returns the sum of absolute differences (SAD), in thousands."""
    return _sum(np.abs(seen - truth), unknown_region(truth)) / 1000


def mean_square_error(seen: FloatImage, truth: FloatImage) -> float:
    """Returns the mean square error (MSE), in thousandths."""
    unknown = unknown_region(truth)
    return _sum(np.square(seen - truth), unknown) / max(1, int(unknown.sum())) * 1000


def gradient_error(seen: FloatImage, truth: FloatImage) -> float:
    """Returns the sum of squared differences of the alphas' gradient magnitudes, in thousands.

    Gradients are those of first-order Gaussian derivatives with a sigma of 1.4, whose filter has
    an Euclidean norm of 1.
    """
    error = np.square(_gradient_magnitude(seen) - _gradient_magnitude(truth))
    return _sum(error, unknown_region(truth)) / 1000


def connectivity_error(seen: FloatImage, truth: FloatImage) -> float:
    """Returns the sum of differences of how connected pixels are with what is solid, in thousands.

    A pixel of alpha a is connected by 1 - d: d is a less the highest level, in steps of 0.1, at
    which the largest region that both alphas cover reaches the pixel by its sides; a d below 0.15
    counts as 0.
    """
    level = _connected_level(seen, truth)
    return _sum(np.abs(_excess(seen, level) - _excess(truth, level)), unknown_region(truth)) / 1000


def _sum(error: FloatImage, where: Mask) -> float:
    return float(error[where].sum(dtype=np.float64)) if where.any() else float("nan")


def _gradient_magnitude(alpha: FloatImage) -> FloatImage:
    reach = int(np.ceil(_SIGMA * np.sqrt(-2 * np.log(np.sqrt(2 * np.pi) * _SIGMA * _LEAST_WEIGHT))))
    place = np.arange(-reach, reach + 1, dtype=np.float64)
    bell = np.exp(-(place**2) / (2 * _SIGMA**2))
    bell, slope = (x / np.linalg.norm(x) for x in (bell, place * bell))
    image = np.asarray(alpha, np.float64)
    across, down = (
        cv2.sepFilter2D(image, -1, x, y, borderType=cv2.BORDER_REPLICATE)
        for x, y in ((slope, bell), (bell, slope))
    )
    return np.hypot(across, down).astype(np.float32)


def _connected_level(seen: FloatImage, truth: FloatImage) -> FloatImage:
    """Returns the highest level at which each pixel belongs to the largest region of both."""
    level = np.ones(truth.shape, np.float32)
    left = np.ones(truth.shape, bool)
    for step in range(1, _LEVELS + 1):
        at = np.float32(step / _LEVELS)
        lost = left & ~_largest_region((seen >= at) & (truth >= at))
        level[lost] = (step - 1) / _LEVELS
        left &= ~lost
    return level


def _largest_region(mask: Mask) -> Mask:
    count, labels, stats, _ = cv2.connectedComponentsWithStats(
        mask.astype(np.uint8), connectivity=4
    )
    if count < 2:
        return np.zeros(mask.shape, bool)
    largest = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    return np.asarray(labels == largest)


def _excess(alpha: FloatImage, level: FloatImage) -> FloatImage:
    above = alpha - level
    return np.where(above >= _THETA, above, 0).astype(np.float32)
