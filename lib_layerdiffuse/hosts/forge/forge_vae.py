"""What Forge's VAE makes of an image before it draws a sample: its posterior."""

from __future__ import annotations

from typing import Any

import torch
from backend import memory_management
from backend.patcher.vae import tiled_scale
from torch import Tensor

from ...errors import HostError
from ..vae_moments import moments

_TILES, _TILE_OVERLAP = ((512, 512), (1024, 256), (256, 1024)), 64  # As the host encodes in tiles.


def posterior(vae: Any, image: Tensor) -> tuple[Tensor, Tensor]:
    """Returns mean and standard deviation `b 4 h w`, VAE's scale, float32.

    They come from the checkpoint's VAE whatever the settings say of TAESD, and in tiles where the
    host is told to use such or memory does not suffice.

    Args:
        vae: The host's, of the loaded checkpoint.
        image: `b 3 H W` in [0, 1].

    Raises:
        HostError: Memory does not suffice even for tiles, or the result is not finite.
    """
    try:
        found = _moments(vae, image)
    except memory_management.OOM_EXCEPTION as error:
        raise HostError(
            "The memory is full: there is no room for the VAE, not even for tiles.",
            "Choose a smaller size, or raise the inference memory at the top of the page.",
        ) from error
    if not found.isfinite().all():
        raise HostError(
            "The VAE overflows: what it makes of the image holds NaN or infinity.",
            "Start the WebUI with --vae-in-fp32, or choose another VAE.",
        )
    mean, std = found.chunk(2, dim=1)
    return mean, std


@torch.no_grad()
def _moments(vae: Any, image: Tensor) -> Tensor:
    """Returns mean and standard deviation beside each other, `b 8 h w`."""

    def of_pixels(pixels: Tensor) -> Tensor:
        signed = (2 * pixels - 1).to(device=vae.device, dtype=vae.vae_dtype)
        return moments(vae.first_stage_model, signed).float().to(vae.output_device)

    needed = vae.memory_used_encode(image.shape, vae.vae_dtype)
    memory_management.load_models_gpu([vae.patcher], memory_required=needed)
    if not memory_management.VAE_ALWAYS_TILED:
        try:
            return of_pixels(image)
        except memory_management.OOM_EXCEPTION:
            memory_management.soft_empty_cache()
    tiled = [
        tiled_scale(
            image,
            of_pixels,
            *tile,
            _TILE_OVERLAP,
            upscale_amount=1 / vae.downscale_ratio,
            out_channels=2 * vae.latent_channels,
            output_device=vae.output_device,
        )
        for tile in _TILES
    ]
    return torch.stack(tiled).mean(0)
