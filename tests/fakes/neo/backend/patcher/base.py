"""A patcher: a shared network, with patches that each clone has for itself.

Loading a clone merges what is on it and takes off what another had; what the network has now is
told by an id, and what it had is kept in a dict that the clones share.
"""

from __future__ import annotations

import copy
from functools import partial
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import torch
from torch import Tensor, nn

from backend import memory_management
from backend.patcher import lora
from backend.utils import get_attr, set_attr_raw


class ModelPatcher:
    def __init__(
        self,
        model: nn.Module,
        load_device: torch.device,
        offload_device: torch.device,
        size: int = 0,
    ) -> None:
        self.model, self.load_device, self.offload_device = model, load_device, offload_device
        self.patches: dict[str, list[Any]] = {}
        self.backup: dict[str, Any] = {}
        self.patches_uuid = uuid4()
        self.model_options: dict[str, Any] = {"transformer_options": {}}
        self.parent: ModelPatcher | None = None
        for name, value in (("current_weight_patches_uuid", None), ("merges", 0)):
            if not hasattr(model, name):
                setattr(model, name, value)

    def clone(self) -> ModelPatcher:
        twin = type(self)(self.model, self.load_device, self.offload_device)
        twin.patches = {key: list(entries) for key, entries in self.patches.items()}
        twin.patches_uuid, twin.parent, twin.backup = self.patches_uuid, self, self.backup
        twin.model_options = copy.deepcopy(self.model_options)
        return twin

    def add_patches(
        self,
        patches: dict[str, Any],
        strength_patch: float = 1.0,
        strength_model: float = 1.0,
        *,
        filename: str | None = None,
        online_mode: bool | None = None,
    ) -> list[str]:
        """Returns the keys that the network has, whatever their patches are."""
        known = [key for key in self.model.state_dict() if key in patches]
        for key in known:
            entry = (strength_patch, patches[key], strength_model, None, None, online_mode)
            self.patches.setdefault(key, []).append(entry)
        self.patches_uuid = uuid4()
        return known

    def set_model_patch(self, patch: Any, name: str) -> None:
        patches = self.model_options["transformer_options"].setdefault("patches", {})
        patches[name] = [*patches.get(name, []), patch]

    def set_model_unet_function_wrapper(self, unet_wrapper_function: Any) -> None:
        self.model_options["model_function_wrapper"] = unet_wrapper_function

    def memory_required(self, input_shape: list[int]) -> int:
        return input_shape[0] * input_shape[2] * input_shape[3]

    def partially_load(self) -> None:
        """Merges this clone's patches, if the network has others."""
        current: UUID | None = self.model.current_weight_patches_uuid
        if current == self.patches_uuid:
            return
        if current is not None:
            self.unpatch_model(self.offload_device)
        self.model.merges += 1
        try:
            for key, entries in self.patches.items():
                self._put(key, entries)
        except Exception:
            self.detach()
            raise
        self.model.current_weight_patches_uuid = self.patches_uuid

    def _put(self, key: str, entries: list[Any]) -> None:
        path, _, name = key.rpartition(".")
        layer = get_attr(self.model, path)
        functions = getattr(layer, f"{name}_function", None)
        online = any(entry[-1] for entry in entries)
        if functions is not None and (online or not memory_management.has_room):
            functions[:] = [partial(_merge_in_call, entries, key)]
            return
        weight = getattr(layer, name)
        self.backup.setdefault(key, SimpleNamespace(weight=weight.detach()))
        merged = lora.merge_lora_to_weight(entries, weight.detach().clone(), key)
        set_attr_raw(self.model, key, nn.Parameter(merged, requires_grad=False))

    def unpatch_model(
        self, device_to: torch.device | None = None, unpatch_weights: bool = True
    ) -> None:
        if not unpatch_weights:
            return
        for layer in self.model.modules():
            for name in ("weight_function", "bias_function"):
                if hasattr(layer, name):
                    getattr(layer, name).clear()
        for key, kept in self.backup.items():
            set_attr_raw(self.model, key, nn.Parameter(kept.weight, requires_grad=False))
        self.backup.clear()
        self.model.current_weight_patches_uuid = None

    def detach(self, unpatch_all: bool = True) -> None:
        self.unpatch_model(self.offload_device, unpatch_weights=unpatch_all)


def _merge_in_call(entries: list[Any], key: str, weight: Tensor) -> Tensor:
    return lora.merge_lora_to_weight(entries, weight, key)
