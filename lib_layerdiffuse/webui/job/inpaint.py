"""Inpainting: outside the mask the init picture comes back with its transparency.

The host lays the flattened init picture, with a hole, over what was made. For a foreground that is
held off, and done here once the transparency is decoded.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from modules import images
from PIL import Image

from ...imaging.images import Picture, ResizeMode, fit, from_u8, to_u8
from ...imaging.masks import Mask, put_back
from ...methods import Layer
from .init_pictures import resized_whole, whole_cells
from .job import Job

_CROP = 1  # The host's number of "Crop and resize".


def hold_overlay(job: Job, overlaid: Any) -> None:
    """Keeps the host from covering a foreground, and notes where it would have.

    Args:
        job: The job.
        overlaid: What the host hands to `postprocess_maskoverlay`.
    """
    job.kept = None
    overlay: Image.Image | None = overlaid.overlay_image
    if overlay is not None and _is_foreground(job, overlaid.index):
        job.kept = from_u8(np.asarray(overlay.getchannel("A")))
        overlaid.overlay_image = Image.new("RGBA", overlay.size)


def _is_foreground(job: Job, batch_index: int) -> bool:
    row = job.row(batch_index)
    return row is not None and job.layer(row) is Layer.FG


def before_overlay(p: Any, job: Job, row: int, image: Image.Image) -> Image.Image:
    """Returns the row's picture at the size that was sampled.

    Where only the masked part was, the host has put it into its place by now. What has not been
    edited since comes back as it was decoded.
    """
    if job.kept is None or p.paste_to is None:
        return image
    left, top, width, height = p.paste_to
    part = image.crop((left, top, left + width, top + height))
    if job.pixels is not None:
        decoded = Image.fromarray(job.decoded(row))
        placed = images.resize_image(_CROP, decoded, width, height)
        if np.array_equal(np.asarray(placed), np.asarray(part)):
            return decoded
    larger = fit(from_u8(np.asarray(part)), p.width, p.height, ResizeMode.FILL)
    return Image.fromarray(to_u8(whole_cells(larger)))


def put_overlay(p: Any, job: Job, row: int, rgba: Image.Image) -> Image.Image:
    """Returns a decoded foreground with the init picture around the mask, straight RGBA."""
    original = job.init.foreground(row) if job.init is not None else None
    if job.kept is None or original is None:
        return rgba
    made, kept = from_u8(np.asarray(rgba)), job.kept
    if p.paste_to is None:
        original = resized_whole(p, original)
    else:
        made, kept = _in_place(made, kept, p.paste_to)
    height, width = original.shape[:2]
    if kept.shape != (height, width):
        kept = fit(kept[..., None], width, height, ResizeMode.STRETCH)[..., 0]
    if p.paste_to is None:
        original, kept = whole_cells(original), whole_cells(kept)
    return Image.fromarray(to_u8(put_back(made, original, kept)))


def _in_place(made: Picture, kept: Mask, place: tuple[int, int, int, int]) -> tuple[Picture, Mask]:
    """Returns both at the size of the whole picture; all is kept outside of the place."""
    left, top, width, height = place
    box = (slice(top, top + height), slice(left, left + width))
    whole, outside = np.zeros((*kept.shape, 4), np.float32), np.ones_like(kept)
    whole[box] = fit(made, width, height, ResizeMode.CROP)
    outside[box] = kept[box]
    return whole, outside
