"""The dialect of Forge and Forge Neo, whose package is called `backend`."""

from __future__ import annotations

from inspect import signature
from typing import Any

from backend import memory_management
from backend.attention import attention_function
from backend.patcher import lora as lora_module
from backend.patcher.base import ModelPatcher
from backend.patcher.unet import UnetPatcher
from backend.patcher.vae import tiled_scale

from ...errors import MissingCapabilityError
from .dialect import Dialect

_OF_THE_MEMORY = (
    "current_loaded_models",
    "get_torch_device",
    "load_models_gpu",
    "should_use_fp16",
    "unet_offload_device",
)
_OF_THE_PATCHER = (
    "add_extra_model_patcher_during_sampling",
    "add_patches",
    "clone",
    "set_model_unet_function_wrapper",
)


def dialect() -> Dialect:
    """Returns how this host's patcher is spoken to.

    Raises:
        MissingCapabilityError: It lacks something, so it is not one that we know.
    """
    adapters = getattr(lora_module, "weight_adapter", None)
    lora = getattr(adapters, "LoRAAdapter", None)
    missing = _missing(tells_loras=lora is not None)
    if missing:
        raise MissingCapabilityError(
            f"This WebUI's model patcher is not one that LayerDiffuse knows: it lacks {missing}.",
            "Update LayerDiffuse, or use the version of the WebUI that its docs/hosts.md names.",
        )
    return Dialect(memory_management, ModelPatcher, attention_function, tiled_scale, lora)


def _missing(tells_loras: bool) -> str | None:
    """Returns the first name that the adapter would ask for in vain, or None."""
    wanted: list[tuple[Any, str, tuple[str, ...]]] = [
        (memory_management, "memory_management", _OF_THE_MEMORY),
        (UnetPatcher, "UnetPatcher", _OF_THE_PATCHER),
    ]
    if not hasattr(lora_module, "LoraLoader"):  # Then the memory manager merges.
        wanted.append((ModelPatcher, "ModelPatcher", ("partially_load", "unpatch_model")))
        if not tells_loras:
            return "weight_adapter.LoRAAdapter"
    for owner, title, names in wanted:
        for name in names:
            if not hasattr(owner, name):
                return f"{title}.{name}"
    taken = signature(UnetPatcher.add_patches).parameters
    return next(
        (f"add_patches({name}=…)" for name in ("patches", "strength_patch") if name not in taken),
        None,
    )
