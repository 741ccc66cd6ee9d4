"""What the checkpoint's VAE makes of an image before it draws a sample: its posterior."""

from __future__ import annotations

from typing import Any

import torch
from modules import devices
from torch import Tensor

from ...errors import HostError
from ...nets.full_memory import is_memory_error
from ..vae_moments import moments, posterior_of
from . import memory


def posterior(sd_model: Any, image: Tensor) -> tuple[Tensor, Tensor]:
    """Returns mean and standard deviation `b 4 h w`, VAE's scale, float32.

    They come from the checkpoint's VAE whatever the settings say of TAESD. One that overflows in
    its own type computes in float32 for this once, as the host lets it do in decoding.

    Args:
        sd_model: The loaded checkpoint.
        image: `b 3 H W` in [0, 1].

    Raises:
        HostError: Memory does not suffice, or the result is not finite.
    """
    vae = sd_model.first_stage_model
    memory.bring(sd_model, vae)
    dtype = next(vae.parameters()).dtype
    try:
        found = _moments(vae, image, dtype)
        if dtype is not torch.float32 and not found.isfinite().all():
            vae.to(torch.float32)
            try:
                found = _moments(vae, image, torch.float32)
            finally:
                vae.to(dtype)
    except Exception as error:
        if not is_memory_error(error):
            raise
        devices.torch_gc()
        raise HostError(
            "The memory is full: there is no room for the VAE.",
            "Choose a smaller size, or start the WebUI with --medvram.",
        ) from error
    return posterior_of(found, "Choose another VAE.")


def _moments(vae: Any, image: Tensor, dtype: torch.dtype) -> Tensor:
    """Returns mean and standard deviation beside each other, `b 8 h w`, one image at a time."""
    signed = (2 * image - 1).to(device=devices.device, dtype=dtype)
    with devices.without_autocast():
        return torch.cat([moments(vae, row.unsqueeze(0)).float() for row in signed])
