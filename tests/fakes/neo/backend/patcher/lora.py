"""Patches into a weight."""

from __future__ import annotations

from typing import Any

from managed_patcher import merge
from torch import Tensor

from backend.patcher import adapters as weight_adapter

__all__ = ["merge_lora_to_weight", "weight_adapter"]


def merge_lora_to_weight(patches: list[Any], weight: Tensor, key: str) -> Tensor:
    """Returns a weight, which is changed, with patches `(strength, patch, …)` added."""
    return merge(patches, weight, key, _unknown)


def _unknown(message: str) -> None:
    raise ValueError(message)
