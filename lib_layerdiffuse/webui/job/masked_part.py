"""What the host cuts out of init images and masks, read from what it leaves on its job.

Some hosts tell scripts of it before they flatten the images. The others have done so by the time
that sampling begins, which is soon enough for our own latents.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from modules import images
from modules.processing import create_binary_mask
from PIL import Image, ImageOps

from .job import Job

_FILL = 2  # The host's number of "Resize and fill".


def note_masked_part(p: Any, job: Job) -> None:
    """Notes what the host has cut out and masked, where it has told no script.

    Args:
        p: The host's processing object, whose init images are in its latent.
        job: The job.
    """
    init = job.init
    if init is None or init.told or p.mask is None:
        return
    if p.paste_to is not None:
        left, top, width, height = p.paste_to
        init.region = (left, top, left + width, top + height)
    init.mask = p.latent_mask if p.latent_mask is not None else _mask(p, init.region)


def _mask(p: Any, region: tuple[int, int, int, int] | None) -> Image.Image:
    """Returns the mask at the job's size, as the host makes it of what the user has drawn."""
    if region is not None:
        part = p.mask_for_overlay.convert("L").crop(region)
        return images.resize_image(_FILL, part, p.width, p.height)
    mask = create_binary_mask(p.image_mask, round=p.mask_round)  # `mask_for_overlay` is doubled.
    if p.inpainting_mask_invert:
        mask = ImageOps.invert(mask)
    mask = _blurred(mask, p.mask_blur_x, p.mask_blur_y)
    return images.resize_image(p.resize_mode, mask, p.width, p.height)


def _blurred(mask: Image.Image, across: float, down: float) -> Image.Image:
    """Returns the mask blurred by Gaussians of these deviations, cut off after 2.5 of them."""
    values = np.asarray(mask)
    for deviation, is_across in ((across, True), (down, False)):
        if deviation > 0:
            size = 2 * int(2.5 * deviation + 0.5) + 1
            values = cv2.GaussianBlur(values, (size, 1) if is_across else (1, size), deviation)
    return Image.fromarray(values)
