"""ComfyUI's IMAGE and MASK as arrays, and back.

IMAGE is `b h w 3|4` in [0, 1], straight alpha. MASK is `b h w`, 1 where an image is *not* to be
seen: alpha is 1 - mask, but for the nodes that say otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import BatchSizeError, ImageSizeError
from ..imaging.images import FloatImage, ImageU8

SIDE = 8
"""Pixels of an image for each of its latent."""


def arrays(image: Tensor, mask: Tensor | None = None) -> list[FloatImage]:
    """Returns each image of a batch, `h w 3|4` float32 in [0, 1], straight alpha.

    Args:
        image: An IMAGE.
        mask: A MASK, one for all or one for each; it is fitted to the image. Where an image has
            alpha of its own, the mask takes from that.
    """
    pixels = image.detach().float().cpu()
    if mask is not None:
        alpha = 1 - _fitted(mask.detach().float().cpu(), pixels)
        own = pixels[..., 3] if pixels.shape[-1] == 4 else torch.ones_like(alpha)
        pixels = torch.cat([pixels[..., :3], (own * alpha).unsqueeze(-1)], dim=-1)
    return list(pixels.clamp(0, 1).numpy())


def _fitted(mask: Tensor, pixels: Tensor) -> Tensor:
    masks = mask.reshape(-1, 1, *mask.shape[-2:])
    size = pixels.shape[1:3]
    if not masks.any() and masks.shape[-2:] != size:  # Load Image's, of an image without alpha.
        masks = masks.new_zeros(len(masks), 1, *size)
    if masks.shape[-2:] != size:
        masks = F.interpolate(masks, size=tuple(size), mode="bilinear")
    if len(masks) not in (1, len(pixels)):
        raise ImageSizeError(
            f"There are {len(masks)} masks for {len(pixels)} images.",
            "Give one mask, or one for each image.",
        )
    return masks[:, 0].expand(len(pixels), -1, -1)


def only(image: Tensor, name: str, mask: Tensor | None = None) -> FloatImage:
    """Returns the one image of a batch, `h w 3|4`.

    Args:
        image: An IMAGE.
        name: Of the input that it was given by.
        mask: As in `arrays`.

    Raises:
        ImageSizeError: There are several.
    """
    if len(image) != 1:
        raise ImageSizeError(
            f"{name} is a batch of {len(image)} images, and the method starts from one.",
            "Take one of them, such as by Image From Batch.",
        )
    return arrays(image, mask)[0]


def image_of(made: Sequence[ImageU8 | FloatImage]) -> Tensor:
    """Returns images of one size, `h w c`, uint8 or float, as an IMAGE."""
    stacked = np.stack(made)
    scale = 255 if stacked.dtype == np.uint8 else 1
    return torch.from_numpy(stacked.astype(np.float32) / scale)


def pixels_of(image: Tensor) -> Tensor:
    """Returns an IMAGE as `b 3 h w`, float32, without alpha."""
    return image.detach()[..., :3].float().movedim(-1, 1)


def latent_of(samples: Any) -> Tensor:
    """Returns the tensor of a LATENT, `b 4 h w`, float32, which is on the VAE's scale.

    Raises:
        ImageSizeError: It is none of an SD1.5 or SDXL image.
    """
    latent = samples["samples"]
    nested = getattr(latent, "is_nested", False)
    if nested or latent.ndim != 4 or latent.shape[1] != 4:
        raise ImageSizeError(
            "The latent is not one of an SD1.5 or SDXL image.",
            "Connect the LATENT of the KSampler, or of VAE Encode with the checkpoint's VAE.",
        )
    return latent.detach().float()


def empty_latent(rows: int, width: int, height: int) -> dict[str, Tensor]:
    """Returns the LATENT of so many empty images of a size in pixels."""
    return {"samples": torch.zeros(rows, 4, height // SIDE, width // SIDE)}


def check_sets(images: Tensor, frames: int, hint: str) -> None:
    """Checks that a batch makes whole sets.

    Args:
        images: An IMAGE.
        frames: Layers of a set.
        hint: What to do where it does not.

    Raises:
        BatchSizeError: It makes none.
    """
    if len(images) % frames:
        raise BatchSizeError(
            f"The batch of {len(images)} images makes no whole sets of {frames} layers.", hint
        )
