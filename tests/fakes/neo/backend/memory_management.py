"""One CPU "device" that holds patchers weakly; notes what is brought to it."""

from __future__ import annotations

from typing import Any

import torch
from managed_patcher import LoadedModel, loading
from one_device import get_free_memory, get_torch_device, unet_offload_device

__all__ = ["get_free_memory", "get_torch_device", "unet_offload_device"]

VAE_ALWAYS_TILED = False
OOM_EXCEPTION = torch.OutOfMemoryError

has_room = True
"""Whether all weights fit; else those that can are patched in each call."""
loaded: list[Any] = []
"""Every network that was loaded, in order."""


current_loaded_models: list[LoadedModel] = []


def should_use_fp16(device: torch.device | None = None) -> bool:
    return False


load_models_gpu = loading(current_loaded_models, loaded)


def soft_empty_cache() -> None:
    pass


def load_model_gpu(model: Any) -> None:
    load_models_gpu([model])
