"""How alike two transparent images look once they are laid over something.

Images are `h w c`, float in [0, 1]; RGBA is straight.
"""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np
import numpy.typing as npt

from ..imaging.images import FloatImage, flatten
from .matting import unknown_region

RGB = tuple[float, float, float]

BACKGROUNDS: Mapping[str, RGB] = {
    "grey": (128 / 255, 128 / 255, 128 / 255),
    "black": (0.0, 0.0, 0.0),
    "white": (1.0, 1.0, 1.0),
    "red": (1.0, 0.0, 0.0),
    "green": (0.0, 1.0, 0.0),
    "blue": (0.0, 0.0, 1.0),
    "yellow": (1.0, 1.0, 0.0),
    "cyan": (0.0, 1.0, 1.0),
    "magenta": (1.0, 0.0, 1.0),
}
"""The colours that images are laid over.

Source: the protocol of AlphaVAE (Wang et al., arXiv:2507.09308).
"""

MOST_PSNR = 60.0
_LUMA = np.array([0.299, 0.587, 0.114])
_WINDOW, _SIGMA = 11, 1.5
_C1, _C2 = 0.01**2, 0.03**2


def psnr(seen: FloatImage, truth: FloatImage, where: npt.NDArray[np.bool_] | None = None) -> float:
    """Returns the peak signal-to-noise ratio in dB of images in [0, 1], at most 60.

    Args:
        seen: `h w c`.
        truth: `h w c`.
        where: The pixels to look at, `h w`; None for all. Of none the ratio is NaN.
    """
    error = np.square(seen - truth)
    if where is not None:
        if not where.any():
            return float("nan")
        error = error[where]
    return float(min(MOST_PSNR, -10 * np.log10(max(error.mean(), 1e-12))))


def ssim(seen: FloatImage, truth: FloatImage) -> float:
    """Returns the mean structural similarity of two RGB images' luma, at most 1.

    Windows are Gaussian, 11 pixels wide with a sigma of 1.5, and lie wholly in the image.

    Args:
        seen: `h w 3`, sides of at least 11 pixels.
        truth: The same.

    Source: Wang et al., "Image Quality Assessment: From Error Visibility to Structural
    Similarity", IEEE TIP 13(4), 2004; luma as AlphaVAE's protocol has it.
    """
    x, y = (np.asarray(image, np.float64) @ _LUMA for image in (seen, truth))
    mean_x, mean_y = _windowed(x), _windowed(y)
    var_x, var_y = _windowed(x * x) - mean_x**2, _windowed(y * y) - mean_y**2
    covariance = _windowed(x * y) - mean_x * mean_y
    alike = (2 * mean_x * mean_y + _C1) * (2 * covariance + _C2)
    return float((alike / ((mean_x**2 + mean_y**2 + _C1) * (var_x + var_y + _C2))).mean())


def _windowed(image: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Returns the Gaussian mean around each pixel whose window lies in the image."""
    reach = _WINDOW // 2
    blurred = cv2.GaussianBlur(image, (_WINDOW, _WINDOW), _SIGMA)
    return np.asarray(blurred[reach:-reach, reach:-reach], np.float64)


def fringe(seen: FloatImage, truth: FloatImage, colour: float) -> float:
    """Returns the mean error over a grey of the truth's soft pixels, 0..255; NaN where none is.

    Args:
        seen: `h w 4`.
        truth: `h w 4`.
        colour: The grey; on black a light rim shows, on white a dark one.
    """
    soft = unknown_region(truth[..., 3])
    if not soft.any():
        return float("nan")
    error = np.abs(flatten(seen, colour) - flatten(truth, colour))
    return 255 * float(error[soft].mean())
