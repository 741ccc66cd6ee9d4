"""One CPU "device"; notes what is brought to it."""

from __future__ import annotations

from typing import Any

import torch
from one_device import get_free_memory, get_torch_device, unet_offload_device

__all__ = ["get_free_memory", "get_torch_device", "unet_offload_device"]

VAE_ALWAYS_TILED = False


class OOM_EXCEPTION(RuntimeError):
    """Memory was full."""


loaded: list[Any] = []
"""Every network that was loaded, in order."""


class LoadedModel:
    """A patcher that is in use until it is taken out of the list; the CPU never runs short."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def model_unload(self, avoid_model_moving: bool = False) -> None:
        self.model.unloaded = True


current_loaded_models: list[LoadedModel] = []


def should_use_fp16(device: torch.device | None = None) -> bool:
    return False


def load_models_gpu(models: list[Any], memory_required: int = 0) -> None:
    """Loads patchers: object patches are put in place, and LoRAs merged if they changed."""
    for patcher in models:
        patcher.model.to(patcher.load_device)
        patcher.refresh_loras()
        loaded.append(patcher.model)
        same = [one for one in current_loaded_models if one.model.model is patcher.model]
        for one in same:  # A clone of it.
            current_loaded_models.remove(one)
        current_loaded_models.insert(0, LoadedModel(patcher))


def soft_empty_cache() -> None:
    pass


def load_model_gpu(model: Any) -> None:
    load_models_gpu([model])
