"""What is put under a mask."""

from __future__ import annotations

import numpy as np
from PIL import Image


def fill(image: Image.Image, mask: Image.Image) -> Image.Image:
    """Returns the image with the mean colour of the rest under the mask."""
    pixels = np.asarray(image.convert("RGB")).astype(np.float32)
    share = np.asarray(mask.convert("L")).astype(np.float32)[..., None] / 255
    mean = (pixels * (1 - share)).sum((0, 1)) / max((1 - share).sum(), 1)
    return Image.fromarray((pixels * (1 - share) + mean * share).astype(np.uint8))
