"""Inpainting: outside the mask the init image comes back with its transparency.

The host lays the flattened init image, with a hole, over what was made. For a foreground that is
held off (`hold_overlay`), and done once the transparency is decoded (`put_original_back`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from modules import images
from PIL import Image

from ...imaging.images import FloatImage, ImageU8, ResizeMode, fit, from_u8, to_u8
from ...imaging.masks import Mask, put_back
from ...methods import Layer
from .init_images import resized_whole, whole_cells
from .job import Job

Place = tuple[int, int, int, int]
"""Left, top, width and height in the whole image."""

_CROP = 1  # The host's number of "Crop and resize".


def hold_overlay(job: Job, overlaid: Any) -> None:
    """Keeps the host from covering a foreground, and notes where it would have.

    Args:
        job: The job.
        overlaid: What the host hands to `postprocess_maskoverlay`.
    """
    job.batch.overlay = None
    overlay: Image.Image | None = overlaid.overlay_image
    if overlay is not None and _is_foreground(job, overlaid.index):
        job.batch.overlay = from_u8(np.asarray(overlay.getchannel("A")))
        overlaid.overlay_image = Image.new("RGBA", overlay.size)


def _is_foreground(job: Job, batch_index: int) -> bool:
    row = job.batch.row(batch_index)
    return row is not None and job.layer(row) is Layer.FG


def sampled_part(p: Any, image: Image.Image, decoded_u8: ImageU8, place: Place | None) -> ImageU8:
    """Returns a finished image at the size that was sampled, `H W 3`.

    Where only the masked part was, the host has put it into its place by now. What has not been
    edited since comes back as it was decoded.

    Args:
        p: The host's processing object.
        image: The image as the host and other extensions have left it.
        decoded_u8: The same as it was decoded, `H W 3`.
        place: Where the sampled part is; None for the whole.
    """
    rgb = image.convert("RGB")
    if place is None:
        return np.asarray(rgb)
    left, top, width, height = place
    part = rgb.crop((left, top, left + width, top + height))
    placed = images.resize_image(_CROP, Image.fromarray(decoded_u8), width, height)
    if np.array_equal(np.asarray(placed), np.asarray(part)):
        return decoded_u8
    larger = fit(from_u8(np.asarray(part)), p.width, p.height, ResizeMode.FILL)
    return to_u8(whole_cells(larger))


def kept_original(
    p: Any, original: FloatImage, kept: Mask, place: Place | None
) -> tuple[FloatImage, Mask]:
    """Returns the init image and how much of it is kept, both at the finished image's size.

    Args:
        p: The host's processing object.
        original: The init image, `h w 4`, straight.
        kept: What the host would lay over the result, `h w` in [0, 1].
        place: Where the sampled part is, outside of which all is kept; None for the whole.
    """
    if place is None:
        original = resized_whole(p, original)
    else:
        left, top, width, height = place
        box = (slice(top, top + height), slice(left, left + width))
        outside = np.ones_like(kept)
        outside[box] = kept[box]
        kept = outside
    rows, columns = original.shape[:2]
    if kept.shape != (rows, columns):
        kept = fit(kept[..., None], columns, rows, ResizeMode.STRETCH)[..., 0]
    if place is None:
        return whole_cells(original), whole_cells(kept)
    return original, kept


def put_original_back(
    rgba_u8: ImageU8, original: FloatImage, keep: Mask, place: Place | None
) -> ImageU8:
    """Returns a decoded foreground with the init image around the mask, straight RGBA `h w 4`.

    What is kept comes back bit for bit, alpha included.

    Args:
        rgba_u8: The foreground as it was decoded, straight.
        original: The init image at the finished size, straight.
        keep: How much of it is kept, `h w` in [0, 1].
        place: Where the foreground belongs; None for the whole.
    """
    made = from_u8(rgba_u8)
    if place is not None:
        left, top, width, height = place
        whole = np.zeros_like(original)
        whole[top : top + height, left : left + width] = fit(made, width, height, ResizeMode.CROP)
        made = whole
    return to_u8(put_back(made, original, keep))
