"""The part of the schedule in which a method acts, by what a host's UNet is told."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def acts_at(timesteps: Any, stop_at: float, of: int) -> bool:
    """Whether a method acts in a UNet call.

    Args:
        timesteps: The call's, of each row or of all; in any type, which does not move the border.
        stop_at: The part of the schedule that it acts in: that of timesteps from
            (1 - stop_at) · the last one on.
        of: Timesteps of the whole schedule.
    """
    last = (1 - stop_at) * (of - 1)
    return stop_at >= 1 or (stop_at > 0 and float(torch.as_tensor(timesteps).max()) >= last)


def acts_down_to(stop_at: float, sigma_end: float, sigmas: Tensor) -> bool:
    """Whether a method acts in a UNet call.

    Args:
        stop_at: The part of the schedule that it acts in.
        sigma_end: The host's sigma there.
        sigmas: The call's, of each row.
    """
    return stop_at >= 1 or bool(sigmas.max() >= sigma_end)
