"""One CPU "device"; each clone that is loaded is merged, and the last one's patches taken off."""

from __future__ import annotations

from typing import Any

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

loaded: list[Any] = []
"""Every network that was loaded, in order."""


class LoadedModel:
    """A patcher that is in use until it is taken out of the list; the CPU never runs short."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def model_unload(self, *, avoid_model_moving: bool = False) -> None:
        self.model.unpatch_model()
        self.model.unloaded = True

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LoadedModel) and self.model is other.model

    __hash__ = None  # type: ignore[assignment]


current_loaded_models: list[LoadedModel] = []


def unload_model_clones(model: Any) -> None:
    for entry in [one for one in current_loaded_models if model.is_clone(one.model)]:
        current_loaded_models.remove(entry)
        entry.model_unload(avoid_model_moving=True)


def load_models_gpu(models: list[Any], memory_required: float = 0) -> None:
    """Loads patchers that are not in use themselves; what a clone of them has merged comes off."""
    new = [one for one in models if LoadedModel(one) not in current_loaded_models]
    for patcher in new:
        unload_model_clones(patcher)
    for patcher in new:
        try:
            patcher.patch_model(patcher.load_device)
        except Exception:
            patcher.unpatch_model(patcher.offload_device)
            raise
        loaded.append(patcher.model)
        current_loaded_models.insert(0, LoadedModel(patcher))
