"""A foreground's row of a batch, and how its finished image comes of it.

A row is one value. It goes through pure functions in this order: the decoder finds its
transparency (`pipeline.decode`), `with_edits` takes over what the host and other extensions have
changed since, `with_original` puts the init image back around the mask.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from ...errors import HostError
from ...imaging.colours import follow_edit
from ...imaging.images import FloatImage, ImageU8, from_u8, to_u8
from ...imaging.masks import Mask
from .inpaint import Place, kept_original, put_original_back, sampled_part
from .job import Job


@dataclass(frozen=True, eq=False)
class Row:
    """One foreground as it was sampled and as the host has finished it.

    Attributes:
        pixels: What the VAE decoded, `3 H W` in [0, 1].
        vae_latent: `4 H/8 W/8`, VAE's scale.
        decoded_u8: The decoded image as the host truncates it, `H W 3`.
        edited_u8: The same once the host and other extensions have edited it, `H W 3`.
        place: Where it belongs in the whole image; None where it is the whole.
        original: The init image and how much of it is kept, at the whole image's size: `h w 4`
            straight and `h w`, in [0, 1]; None where nothing is.
    """

    pixels: Tensor
    vae_latent: Tensor
    decoded_u8: ImageU8
    edited_u8: ImageU8
    place: Place | None = None
    original: tuple[FloatImage, Mask] | None = None


def row_of(p: Any, job: Job, index: int, image: Image.Image) -> Row:
    """Returns a row of the job's batch.

    Args:
        p: The host's processing object.
        job: The job.
        index: The row.
        image: Its image as the host and other extensions have left it.

    Raises:
        HostError: There is no latent for it.
    """
    batch = job.batch
    if batch.pixels is None or batch.vae_latents is None or len(batch.vae_latents) <= index:
        raise HostError("There is no latent for one of the images.", "Generate again.")
    decoded_u8 = batch.decoded(index)
    original = None if job.init is None else job.init.foreground(index)
    place: Place | None = None if batch.overlay is None else p.paste_to
    return Row(
        pixels=batch.pixels[index].float().cpu(),
        vae_latent=batch.vae_latents[index],
        decoded_u8=decoded_u8,
        edited_u8=sampled_part(p, image, decoded_u8, place),
        place=place,
        original=None
        if original is None or batch.overlay is None
        else kept_original(p, original, batch.overlay, place),
    )


def with_edits(row: Row, rgba_u8: ImageU8) -> ImageU8:
    """Returns the decoded image `H W 4` with the edits that its RGB image has had; alpha stays."""
    if np.array_equal(row.decoded_u8, row.edited_u8):
        return rgba_u8
    before, after = from_u8(row.decoded_u8), from_u8(row.edited_u8)
    return to_u8(follow_edit(from_u8(rgba_u8), before, after))


def with_original(row: Row, rgba_u8: ImageU8) -> ImageU8:
    """Returns the decoded image with the init image around the mask, at the whole image's size."""
    if row.original is None:
        return rgba_u8
    return put_original_back(rgba_u8, *row.original, row.place)
