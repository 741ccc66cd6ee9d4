"""Every figure that is taken of a transparent image beside its truth, in one table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from ..imaging.images import FloatImage, flatten, premultiply
from . import matting, transparency
from .composites import BACKGROUNDS, MOST_PSNR, fringe, psnr, ssim

Taken = Callable[[FloatImage, FloatImage], float]
"""Takes a figure of an image beside its truth; NaN where there is nothing to measure."""


@dataclass(frozen=True)
class Measure:
    """One figure.

    Attributes:
        id: What JSON calls it.
        name: What the table calls it, with its unit.
        ideal: Its value of an image that is its truth.
        taken: What takes it, of straight RGBA `h w 4` in [0, 1].
        of_each: It is the mean of these instead, by id.
    """

    id: str
    name: str
    ideal: float
    taken: Taken | None = None
    of_each: tuple[str, ...] = ()


DEFINITIONS: Mapping[str, str] = {
    "PSNR, SSIM": "of RGB composites on each of nine colours (grey is 128/255), and the mean of "
    f"the nine; PSNR at most {MOST_PSNR:g} dB; SSIM of luma in Gaussian windows of 11 pixels, "
    "sigma 1.5. Protocol: AlphaVAE, arXiv:2507.09308; SSIM: Wang et al., IEEE TIP 13(4), 2004",
    "unknown region": f"where the true alpha is between {matting.CLEAR:g} and {matting.SOLID:g}",
    "SAD, MSE": "sum of absolute alpha differences in the unknown region, in thousands; mean "
    "square alpha difference there, in thousandths",
    "gradient": "sum of squared differences of the alphas' gradient magnitudes in the unknown "
    "region, in thousands; first-order Gaussian derivatives, sigma 1.4, a filter of norm 1. "
    "Rhemann et al., CVPR 2009, scaled as by Xu et al., CVPR 2017",
    "connectivity": "sum of differences of the alphas' connectedness in the unknown region, in "
    "thousands; theta 0.15, steps of 0.1, four neighbours. Sources as for the gradient",
    "colour": "mean absolute error of the straight colours, weighted by the true alpha",
    "soft IoU": "Σ min / Σ max of both alphas",
    "haze": "mean alpha where the true alpha is 0",
    "fringe": "mean absolute error of the composite in the unknown region, on black against "
    "white: much on black alone is a light rim, much on white alone a dark one",
    "red cast": "red added above green and blue added, weighted by the true alpha",
    "difference": "of two results of the decoder, before they are rounded to steps of 1/255: "
    "absolute, of alpha and of the colours times alpha",
    "opaque": f"share of the pixels of alpha 1 that keep an alpha of at least {matting.SOLID:g}",
}
"""What the figures are, by what they are called together."""


def _over(of: Taken, background: str) -> Taken:
    below = BACKGROUNDS[background]
    return lambda seen, truth: of(flatten(seen, below), flatten(truth, below))


def _of_alpha(of: Taken) -> Taken:
    return lambda seen, truth: of(seen[..., 3], truth[..., 3])


def _difference(percentile: float) -> Taken:
    def taken(seen: FloatImage, truth: FloatImage) -> float:
        apart = np.abs(premultiply(seen) - premultiply(truth))
        return 255 * float(np.percentile(apart, percentile))

    return taken


def _on_backgrounds(id: str, name: str, unit: str, ideal: float, of: Taken) -> list[Measure]:
    each = [
        Measure(f"{id}_{colour}", f"{name} on {colour}{unit}", ideal, _over(of, colour))
        for colour in BACKGROUNDS
    ]
    ids = tuple(measure.id for measure in each)
    return [*each, Measure(f"{id}_mean", f"{name}, mean of the nine{unit}", ideal, of_each=ids)]


MEASURES: Sequence[Measure] = (
    *_on_backgrounds("psnr", "PSNR", ", dB", MOST_PSNR, psnr),
    *_on_backgrounds("ssim", "SSIM", "", 1.0, ssim),
    Measure("sad", "SAD, 10³", 0.0, _of_alpha(matting.sum_of_differences)),
    Measure("mse", "MSE, 10⁻³", 0.0, _of_alpha(matting.mean_square_error)),
    Measure("gradient", "gradient error, 10³", 0.0, _of_alpha(matting.gradient_error)),
    Measure("connectivity", "connectivity error, 10³", 0.0, _of_alpha(matting.connectivity_error)),
    Measure("soft_iou", "soft IoU of alpha", 1.0, _of_alpha(transparency.soft_iou)),
    Measure("colour_error", "colour error, 1/255", 0.0, transparency.colour_error),
    Measure("haze", "haze, 1/255", 0.0, transparency.haze),
    Measure("fringe_black", "fringe on black, 1/255", 0.0, partial(fringe, colour=0.0)),
    Measure("fringe_white", "fringe on white, 1/255", 0.0, partial(fringe, colour=1.0)),
    Measure("red_cast", "red cast, 1/255", 0.0, transparency.red_cast),
    Measure("kept_opaque", "opaque stays opaque, %", 100.0, transparency.kept_solid),
)
"""What is measured of each image, in the order of the table."""


DIFFERENCES: Sequence[Measure] = (
    Measure("difference_99_9", "difference, 99.9th percentile, 1/255", 0.0, _difference(99.9)),
    Measure("difference_most", "difference, largest, 1/255", 0.0, _difference(100)),
)
"""What is measured beside that of two results of one decoder."""


def measured(
    seen: FloatImage, truth: FloatImage, measures: Sequence[Measure] = MEASURES
) -> dict[str, float]:
    """Returns the figures of an image by id, in the measures' order; NaN where there is none.

    Args:
        seen: `h w 4`, straight RGBA in [0, 1].
        truth: The same.
        measures: Which.
    """
    values: dict[str, float] = {}
    for one in measures:
        each = [values[id] for id in one.of_each]
        values[one.id] = one.taken(seen, truth) if one.taken else float(np.mean(each))
    return values
