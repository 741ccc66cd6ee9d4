"""One CPU "device" that holds patchers weakly; notes what is brought to it."""

from __future__ import annotations

from typing import Any

from managed_patcher import LoadedModel, loading
from one_device import (
    get_free_memory,
    get_torch_device,
    should_use_fp16,
    soft_empty_cache,
    unet_offload_device,
)

__all__ = [
    "get_free_memory",
    "get_torch_device",
    "should_use_fp16",
    "soft_empty_cache",
    "unet_offload_device",
]

VAE_ALWAYS_TILED = False
OOM_EXCEPTION = Exception
"""As where the host finds none of the device's own."""

has_room = True
"""Whether all weights fit; else those that can are patched in each call."""
loaded: list[Any] = []
"""Every network that was loaded, in order."""
current_loaded_models: list[LoadedModel] = []


load_models_gpu = loading(current_loaded_models, loaded)
