"""What the host's VAE makes of an image before it draws a sample: its posterior."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...errors import HostError
from ...nets.full_memory import is_memory_error
from ..vae_moments import moments, posterior_of
from .dialect import Dialect

_FULL = "Choose a smaller size, or raise the inference memory at the top of the page."
_OVERFLOWS = (
    "Start the WebUI with its VAE in float32, --vae-in-fp32 or --fp32-vae, or choose another VAE."
)
_TILES, _TILE_OVERLAP = ((512, 512), (1024, 256), (256, 1024)), 64  # As the host encodes in tiles.


def posterior(
    dialect: Dialect, vae: Any, image: Tensor, *, full: str = _FULL, overflows: str = _OVERFLOWS
) -> tuple[Tensor, Tensor]:
    """Returns mean and standard deviation `b 4 h w`, VAE's scale, float32.

    They come from the checkpoint's VAE whatever the settings say of TAESD, and in tiles where the
    host is told to use such or memory does not suffice.

    Args:
        dialect: The host's.
        vae: The host's, of the loaded checkpoint.
        image: `b 3 H W` in [0, 1].
        full: What to do where memory is full.
        overflows: What to do where the VAE overflows.

    Raises:
        HostError: Memory does not suffice even for tiles, or the result is not finite.
    """
    try:
        found = _moments(dialect, vae, image)
    except Exception as error:
        if not is_memory_error(error, dialect.memory_errors()):
            raise
        raise HostError(
            "The memory is full: there is no room for the VAE, not even for tiles.", full
        ) from error
    return posterior_of(found, overflows)


@torch.no_grad()
def _moments(dialect: Dialect, vae: Any, image: Tensor) -> Tensor:
    """Returns mean and standard deviation beside each other, `b 8 h w`."""

    def of_pixels(pixels: Tensor) -> Tensor:
        signed = (2 * pixels - 1).to(device=vae.device, dtype=vae.vae_dtype)
        return moments(vae.first_stage_model, signed).float().to(vae.output_device)

    needed = vae.memory_used_encode(image.shape, vae.vae_dtype)
    memory = dialect.memory
    memory.load_models_gpu([vae.patcher], memory_required=needed)
    if not getattr(memory, "VAE_ALWAYS_TILED", False):
        try:
            return of_pixels(image)
        except Exception as error:
            if not is_memory_error(error, dialect.memory_errors()):
                raise
            memory.soft_empty_cache()
    tiled = [
        dialect.tiled_scale(
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
