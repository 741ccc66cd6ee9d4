"""A patcher whose patches the memory manager merges."""

from __future__ import annotations

from typing import Any

from managed_patcher import ManagedPatcher
from torch import Tensor

from backend import memory_management
from backend.patcher import lora


class ModelPatcher(ManagedPatcher):
    def add_patches(
        self,
        patches: dict[str, Any],
        strength_patch: float = 1.0,
        strength_model: float = 1.0,
        *,
        filename: str | None = None,
        online_mode: bool | None = None,
    ) -> list[str]:
        return self.put(patches, strength_patch, strength_model, None, None, online_mode)

    @staticmethod
    def merge(entries: list[Any], weight: Tensor, key: str) -> Tensor:
        return lora.merge_lora_to_weight(entries, weight, key)

    @staticmethod
    def has_room() -> bool:
        return memory_management.has_room
