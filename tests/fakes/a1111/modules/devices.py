"""Where and in which type the host computes."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

device = torch.device("cpu")
dtype = dtype_unet = dtype_vae = torch.float32


def without_autocast(disable: bool = False) -> AbstractContextManager[object]:
    """Returns a context without CUDA's autocast; the stand-in treats the CPU's so."""
    on = torch.is_autocast_enabled("cpu") and not disable
    return torch.autocast("cpu", enabled=False) if on else nullcontext()


def torch_gc() -> None:
    """Gives memory back that nobody uses."""
