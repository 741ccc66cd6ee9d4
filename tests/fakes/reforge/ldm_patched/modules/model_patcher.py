"""A patcher whose patches the memory manager merges."""

from __future__ import annotations

from typing import Any

from managed_patcher import ManagedPatcher
from torch import Tensor

from ldm_patched.modules import lora, model_management


class ModelPatcher(ManagedPatcher):
    def add_patches(
        self, patches: dict[str, Any], strength_patch: float = 1.0, strength_model: float = 1.0
    ) -> list[str]:
        return self.put(patches, strength_patch, strength_model, None, None)

    @staticmethod
    def merge(entries: list[Any], weight: Tensor, key: str) -> Tensor:
        return lora.calculate_weight(entries, weight, key)

    @staticmethod
    def has_room() -> bool:
        return model_management.has_room
