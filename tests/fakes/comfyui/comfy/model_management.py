"""One CPU "device" that holds patchers weakly; notes what is brought to it."""

from __future__ import annotations

from typing import Any

import torch
from managed_patcher import LoadedModel, load

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


def get_torch_device() -> torch.device:
    return torch.device("cpu")


def unet_offload_device() -> torch.device:
    return torch.device("cpu")


def should_use_fp16(device: torch.device | None = None, model_params: int = 0) -> bool:
    return False


def load_models_gpu(
    models: list[Any],
    memory_required: float = 0,
    force_patch_weights: bool = False,
    minimum_memory_required: float | None = None,
    force_full_load: bool = False,
) -> None:
    load(models, current_loaded_models, loaded)
    if force_full_load:
        whole.extend(patcher.model for patcher in models)


def loaded_models(only_currently_used: bool = False) -> list[Any]:
    return [entry.model for entry in current_loaded_models]


def soft_empty_cache(force: bool = False) -> None:
    pass
