"""A patcher: a shared network, with patches that each clone has for itself.

What the network had before is kept in a dict that the clones share, and so is a note of when
patches were added and merged. Told to let patches persist, the patcher merges all that is on a
clone onto what is there whenever something was added, and takes it off only for other LoRAs.
"""

from __future__ import annotations

import copy
import itertools
from typing import Any

import torch
from clones import WithMemory
from managed_patcher import add_difference, put_back
from torch import Tensor, nn

loras: list[str] = []
"""The user's, which the host's settings of the moment name."""
_clock = itertools.count(1)


class PatchStatus:
    def __init__(self) -> None:
        self.added = self.applied = 0
        self.loras: list[str] | None = None

    def on_add_patches(self) -> None:
        self.added = next(_clock)

    def patch(self) -> None:
        self.applied, self.loras = next(_clock), list(loras)


def keep_patches(persist: bool) -> None:
    """Does what the command line does: makes the patches persist, or not."""
    ModelPatcher.persists = persist
    ModelPatcher.unpatch_model.__kwdefaults__["move"] = not persist


class ModelPatcher(WithMemory):
    persists = False

    def __init__(
        self,
        model: nn.Module,
        load_device: torch.device,
        offload_device: torch.device,
        size: int = 0,
        current_device: torch.device | None = None,
        weight_inplace_update: bool = False,
    ) -> None:
        self.model, self.load_device, self.offload_device = model, load_device, offload_device
        self.weight_inplace_update = weight_inplace_update
        self.patches: dict[str, list[Any]] = {}
        self.backup: dict[str, Tensor] = {}
        self.model_options: dict[str, Any] = {"transformer_options": {}}
        self.patch_status = PatchStatus()
        if not hasattr(model, "merges"):
            model.merges = 0

    def clone(self) -> ModelPatcher:
        devices = (self.load_device, self.offload_device)
        twin = type(self)(self.model, *devices, 0, None, self.weight_inplace_update)
        twin.patches = {key: list(entries) for key, entries in self.patches.items()}
        twin.backup, twin.patch_status = self.backup, self.patch_status
        twin.model_options = copy.deepcopy(self.model_options)
        return twin

    def is_clone(self, other: Any) -> bool:
        return getattr(other, "model", None) is self.model

    def add_patches(
        self, patches: dict[str, Any], strength_patch: float = 1.0, strength_model: float = 1.0
    ) -> list[str]:
        known = [key for key in self.model.state_dict() if key in patches]
        for key in known:
            entry = (strength_patch, patches[key], strength_model)
            self.patches.setdefault(key, []).append(entry)
        self.patch_status.on_add_patches()
        return known

    def patch_model(self, device_to: torch.device | None = None) -> None:
        status = self.patch_status
        if self.persists and status.loras != loras:
            self.unpatch_model(move=True)
        self.model.merges += 1
        if not self.patches or (self.persists and status.applied >= status.added):
            return
        for key, entries in self.patches.items():
            path, _, name = key.rpartition(".")
            layer = self.model.get_submodule(path)
            weight = getattr(layer, name).detach()
            self.backup.setdefault(key, weight.clone() if self.weight_inplace_update else weight)
            merged = self.calculate_weight(entries, weight.clone(), key)
            if self.weight_inplace_update:
                weight.copy_(merged)
            else:
                setattr(layer, name, nn.Parameter(merged, requires_grad=False))
        status.patch()

    def calculate_weight(self, patches: list[Any], weight: Tensor, key: str) -> Tensor:
        """Returns a weight, which is changed, with patches `(strength, (kind, parts), …)` added."""
        for strength, (kind, parts), *_ in patches:
            if kind == "diff":
                weight = add_difference(weight, parts, strength, key)
                continue
            assert kind == "lora"
            up, down, alpha, mid, scale, shape = (parts[i] for i in range(6))  # read by position
            assert alpha is mid is scale is shape is None
            weight += strength * (up @ down)
        return weight

    def unpatch_model(self, device_to: torch.device | None = None, *, move: bool = True) -> None:
        if not (self.backup and move):
            return
        if self.weight_inplace_update:
            for key, weight in self.backup.items():
                self.model.get_parameter(key).data.copy_(weight)
        else:
            put_back(self.model, self.backup)
        self.backup.clear()
        self.patch_status.loras = list(loras)
