"""One CPU "device" that holds patchers weakly; notes what is brought to it."""

from __future__ import annotations

from typing import Any

import torch
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

OOM_EXCEPTION = torch.OutOfMemoryError

has_room = True
"""Whether all weights fit; else those that can are patched in each call."""
interrupted = False
"""Whether the user has stopped the prompt."""
loaded: list[Any] = []
"""Every network that was loaded, in order."""
current_loaded_models: list[LoadedModel] = []
whole: list[Any] = []
"""Those that had to be loaded whole; of others a part may stay on the CPU."""


class InterruptProcessingException(BaseException):
    """No `Exception`: what mends an error alone does not mend this."""


def throw_exception_if_processing_interrupted() -> None:
    global interrupted  # noqa: PLW0603
    if interrupted:
        interrupted = False
        raise InterruptProcessingException


load_models_gpu = loading(current_loaded_models, loaded, whole)


def loaded_models(only_currently_used: bool = False) -> list[Any]:
    return [entry.model for entry in current_loaded_models]
