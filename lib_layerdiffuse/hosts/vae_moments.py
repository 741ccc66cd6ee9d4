"""What a checkpoint's VAE makes of an image before it draws a sample."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..errors import HostError

_LEAST, _MOST = -30.0, 20.0  # Of a variance's logarithm, as every host clips it.


@torch.no_grad()
def moments(first_stage_model: Any, signed: Tensor) -> Tensor:
    """Returns the posterior's mean and standard deviation beside each other, `b 8 h w`.

    They are on the VAE's own scale. Its `encode` is not asked: one host's draws a sample, another's
    takes a function.

    Args:
        first_stage_model: With ldm's names: `encoder`, and `quant_conv` where the VAE has one.
        signed: `b 3 H W` in [-1, 1].
    """
    found = first_stage_model.encoder(signed)
    quant_conv = getattr(first_stage_model, "quant_conv", None)
    if quant_conv is not None:
        found = quant_conv(found)
    mean, log_variance = found.chunk(2, dim=1)
    return torch.cat([mean, torch.exp(0.5 * log_variance.clamp(_LEAST, _MOST))], dim=1)


def posterior_of(found: Tensor, hint: str) -> tuple[Tensor, Tensor]:
    """Returns mean and standard deviation, `b 4 h w`, of what `moments` has found.

    Args:
        found: Of all images, `b 8 h w`.
        hint: What to do where the VAE overflows.

    Raises:
        HostError: A number is not finite.
    """
    if not found.isfinite().all():
        raise HostError(
            "The VAE overflows: what it makes of the image holds NaN or infinity.", hint
        )
    mean, std = found.chunk(2, dim=1)
    return mean, std
