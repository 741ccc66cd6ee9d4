"""What memory managers of stand-ins have in common: one "device", the CPU."""

from __future__ import annotations

import torch


def get_torch_device() -> torch.device:
    return torch.device("cpu")


def unet_offload_device() -> torch.device:
    return torch.device("cpu")


def get_free_memory(device: torch.device | None = None) -> int:
    return 1 << 30


def should_use_fp16(device: torch.device | None = None, model_params: int = 0) -> bool:
    return False


def soft_empty_cache(force: bool = False) -> None:
    pass
