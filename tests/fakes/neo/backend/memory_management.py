"""One CPU "device" that holds patchers weakly; notes what is brought to it."""

from __future__ import annotations

from typing import Any
from weakref import finalize, ref

import torch

VAE_ALWAYS_TILED = False
OOM_EXCEPTION = torch.OutOfMemoryError

has_room = True
"""Whether all weights fit; else those that can are patched in each call."""
loaded: list[Any] = []
"""Every network that was loaded, in order."""


class LoadedModel:
    """A patcher in use, as long as somebody holds it; then the one that it was cloned of."""

    def __init__(self, model: Any) -> None:
        self._hold(model)

    def _hold(self, model: Any) -> None:
        self._model, self.real_model = ref(model), ref(model.model)
        if model.parent is not None:
            self._parent = ref(model.parent)
            finalize(model, self._hold_parent).atexit = False

    def _hold_parent(self) -> None:
        parent = self._parent()
        if parent is not None:
            self._hold(parent)

    @property
    def model(self) -> Any:
        return self._model()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LoadedModel) and self.model is other.model

    __hash__ = None  # type: ignore[assignment]

    def model_unload(
        self, memory_to_free: float | None = None, unpatch_weights: bool = True
    ) -> bool:
        self.model.detach(unpatch_weights)
        self.model.unloaded = True
        return True


current_loaded_models: list[LoadedModel] = []


def get_torch_device() -> torch.device:
    return torch.device("cpu")


def unet_offload_device() -> torch.device:
    return torch.device("cpu")


def should_use_fp16(device: torch.device | None = None) -> bool:
    return False


def load_models_gpu(
    models: list[Any],
    memory_required: float = 0,
    force_patch_weights: bool = False,
    minimum_memory_required: float | None = None,
    force_full_load: bool = False,
) -> None:
    """Loads patchers, and merges their patches where the network has others."""
    for patcher in models:
        for entry in list(current_loaded_models):  # A clone of it, or nobody's any more.
            if entry.model is None or entry.model.model is patcher.model:
                place = next(i for i, one in enumerate(current_loaded_models) if one is entry)
                del current_loaded_models[place]
        patcher.model.to(patcher.load_device)
        patcher.partially_load()
        loaded.append(patcher.model)
        current_loaded_models.insert(0, LoadedModel(patcher))


def soft_empty_cache() -> None:
    pass


def load_model_gpu(model: Any) -> None:
    load_models_gpu([model])
