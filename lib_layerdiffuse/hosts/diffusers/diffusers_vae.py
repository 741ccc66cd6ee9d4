"""Images to latents and back through the checkpoint's VAE."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...errors import HostError


def prepare(vae: Any, *, tiling: bool) -> None:
    """Brings a loaded VAE to the type in which its numbers fit, and to tiles if asked.

    Args:
        vae: An `AutoencoderKL`. One that says `force_upcast` overflows in float16.
        tiling: Whether to encode and decode large images in tiles.
    """
    if vae.config.force_upcast and vae.dtype == torch.float16:
        vae.to(torch.float32)
    vae.eval().requires_grad_(False)
    if tiling:
        vae.enable_tiling()


@torch.no_grad()
def posterior(vae: Any, image: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """Returns mean and standard deviation, `b 4 h w`, VAE's scale, float32, on the CPU.

    Args:
        vae: An `AutoencoderKL`.
        image: `b 3 H W` in [0, 1].
        device: Where it computes.
    """
    signed = image.to(device=device, dtype=vae.dtype) * 2 - 1
    found = [vae.encode(row.unsqueeze(0)).latent_dist for row in signed]
    means, stds = ([getattr(f, name) for f in found] for name in ("mean", "std"))
    return torch.cat(means).float().cpu(), torch.cat(stds).float().cpu()


def to_vae_scale(vae: Any, latent: Tensor) -> Tensor:
    """Returns a sampler's latent `… 4 h w` on the VAE's own scale, float32."""
    mean, std = _statistics(vae, latent)
    return latent.float() * std / vae.config.scaling_factor + mean


def to_sampler_scale(vae: Any, latent: Tensor) -> Tensor:
    """Returns a VAE's latent `… 4 h w` on the sampler's scale, float32."""
    mean, std = _statistics(vae, latent)
    return (latent.float() - mean) / std * vae.config.scaling_factor


def _statistics(vae: Any, latent: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the latents' mean and deviation where a VAE has such, else 0 and 1, `4 1 1`."""
    pairs = (("latents_mean", 0.0), ("latents_std", 1.0))
    values = (getattr(vae.config, name, None) or [plain] * 4 for name, plain in pairs)
    mean, std = (torch.tensor(v, device=latent.device).view(4, 1, 1) for v in values)
    return mean, std


@torch.no_grad()
def pixels(vae: Any, latents: Tensor, device: torch.device) -> Tensor:
    """Returns `b 3 H W` in [0, 1], float32, on the CPU; one row at a time to save memory.

    Args:
        vae: An `AutoencoderKL`; it stays in float32 once its own type was too small.
        latents: `b 4 h w`, sampler's scale.
        device: Where it computes.

    Raises:
        HostError: Even in float32 the result is not finite.
    """
    rows = [_decode(vae, row.unsqueeze(0), device) for row in to_vae_scale(vae, latents)]
    return torch.cat(rows)


def _decode(vae: Any, latent: Tensor, device: torch.device) -> Tensor:
    def decoded() -> Tensor:
        sample: Tensor = vae.decode(latent.to(device=device, dtype=vae.dtype)).sample
        return sample.float().cpu()

    image = decoded()
    if not image.isfinite().all() and vae.dtype != torch.float32:
        vae.to(torch.float32)
        image = decoded()
    if not image.isfinite().all():
        raise HostError(
            "The VAE overflows: the image holds NaN or infinity, even in float32.",
            "Choose another type with --dtype, such as bfloat16 or float32, or another checkpoint.",
        )
    return (image / 2 + 0.5).clamp(0, 1)
