"""A patcher: a shared network, with options that each clone has for itself."""

from __future__ import annotations

import copy
from typing import Any

import torch
from clones import WithOptions
from torch import nn

from backend.patcher.lora import LoraLoader


class ModelPatcher(WithOptions):
    def __init__(
        self, model: nn.Module, load_device: torch.device, offload_device: torch.device
    ) -> None:
        self.model, self.load_device, self.offload_device = model, load_device, offload_device
        self.lora_patches: dict[tuple[str, float, float, bool], dict[str, list[Any]]] = {}
        self.model_options: dict[str, Any] = {"transformer_options": {}}
        if not hasattr(model, "lora_loader"):
            model.lora_loader = LoraLoader(model)
        self.lora_loader: LoraLoader = model.lora_loader

    def clone(self) -> ModelPatcher:
        twin = type(self)(self.model, self.load_device, self.offload_device)
        twin.lora_patches = self.lora_patches.copy()
        twin.model_options = copy.deepcopy(self.model_options)
        return twin

    def add_patches(
        self,
        *,
        filename: str,
        patches: dict[str, Any],
        strength_patch: float = 1.0,
        strength_model: float = 1.0,
        online_mode: bool = False,
    ) -> set[str]:
        """Returns the keys that the network has; the others are left out without a word."""
        known = {name for name, _ in self.model.named_parameters()}
        accepted = known & patches.keys()
        self.lora_patches[filename, strength_patch, strength_model, online_mode] = {
            key: [[strength_patch, patches[key], strength_model, None, None]] for key in accepted
        }
        return accepted

    def refresh_loras(self) -> None:
        self.lora_loader.refresh(self.lora_patches, offload_device=self.offload_device)
