"""A patcher whose patches the memory manager merges, with wrappers in the place of hooks.

`clone_base_uuid` and the like are left out. A clone's dicts are its own, what they hold is shared.
"""

from __future__ import annotations

from typing import Any

import torch
from managed_patcher import ManagedPatcher, put_back
from torch import Tensor, nn

from comfy import lora, model_management

_Wrappers = dict[str, dict[Any, list[Any]]]


class ModelPatcher(ManagedPatcher):
    def __init__(
        self,
        model: nn.Module,
        load_device: torch.device,
        offload_device: torch.device,
        size: int = 0,
        weight_inplace_update: bool = False,
    ) -> None:
        super().__init__(model, load_device, offload_device, size)
        self.weight_inplace_update = weight_inplace_update
        self.wrappers: _Wrappers = {}
        self.additional_models: dict[str, list[Any]] = {}
        self.cached_patcher_init: Any = None

    def clone(self) -> ModelPatcher:
        twin = super().clone()
        assert isinstance(twin, ModelPatcher)
        twin.wrappers = {
            kind: {key: list(found) for key, found in keyed.items()}
            for kind, keyed in self.wrappers.items()
        }
        for key, patchers in self.additional_models.items():
            twin.additional_models[key] = [patcher.clone() for patcher in patchers]
        twin.cached_patcher_init = self.cached_patcher_init
        return twin

    def add_patches(
        self, patches: dict[str, Any], strength_patch: float = 1.0, strength_model: float = 1.0
    ) -> list[str]:
        return self.put(patches, strength_patch, strength_model, None, None)

    def add_wrapper_with_key(self, wrapper_type: str, key: str, wrapper: Any) -> None:
        self.wrappers.setdefault(wrapper_type, {}).setdefault(key, []).append(wrapper)

    def get_wrappers(self, wrapper_type: str, key: str) -> list[Any]:
        return self.wrappers.get(wrapper_type, {}).get(key, [])

    def set_additional_models(self, key: str, models: list[Any]) -> None:
        self.additional_models[key] = models

    def get_additional_models_with_key(self, key: str) -> list[Any]:
        return self.additional_models.get(key, [])

    def get_model_object(self, name: str) -> Any:
        return getattr(self.model, name)

    def set_model_denoise_mask_function(self, denoise_mask_function: Any) -> None:
        self.model_options["denoise_mask_function"] = denoise_mask_function

    def deepclone_multigpu(self) -> None:
        """Fails, or calls what makes a network's copy for another device."""
        for patcher in (p for found in self.additional_models.values() for p in found):
            if patcher.cached_patcher_init is None:
                raise RuntimeError("cached_patcher_init is not initialized")
            make, given = patcher.cached_patcher_init
            make(*given)

    @staticmethod
    def merge(entries: list[Any], weight: Tensor, key: str) -> Tensor:
        return lora.calculate_weight(entries, weight, key)

    @staticmethod
    def has_room() -> bool:
        return model_management.has_room


class ModelPatcherDynamic(ModelPatcher):
    """Leaves weights as they are: each layer merges them in its calls.

    What is no layer of the host's is brought to the device as new parameters, in the place of
    those that it had at the first load and has again after it.
    """

    def partially_load(self) -> None:
        put_back(self.model, dict(self.model_backup))
        for layer in self.model.modules():
            if hasattr(layer, "weight_function"):
                layer.weight_lowvram_function = layer.bias_lowvram_function = None
        ours = {n: p for n, p in self.model.named_parameters() if not self._is_hosts(n)}
        self.model.dynamic_backup = ours
        put_back(self.model, {key: value.detach().clone() for key, value in ours.items()})
        for key, entries in self.patches.items():
            path, _, name = key.rpartition(".")
            layer = self.model.get_submodule(path)
            if self._is_hosts(key):
                merged = lora.LowVramPatch(entries, key)
                setattr(layer, f"{name}_lowvram_function", merged)
            else:
                self._put(key, entries)
        self.model.current_weight_patches_uuid = self.patches_uuid

    @property
    def model_backup(self) -> dict[str, Tensor]:
        return getattr(self.model, "dynamic_backup", {})

    def _is_hosts(self, key: str) -> bool:
        return hasattr(self.model.get_submodule(key.rpartition(".")[0]), "weight_function")


CoreModelPatcher: type[ModelPatcher] = ModelPatcher
"""Chosen when the program starts."""
