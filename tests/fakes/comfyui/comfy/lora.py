"""Patches into a weight."""

from __future__ import annotations

import logging
from typing import Any

from managed_patcher import merge
from torch import Tensor


def calculate_weight(patches: list[Any], weight: Tensor, key: str) -> Tensor:
    """Returns a weight, which is changed, with patches added; others only reach the log."""
    return merge(patches, weight, key, logging.getLogger("lora").warning)


class LowVramPatch:
    """What a layer calls with its weight in each of its calls."""

    def __init__(self, patches: list[Any], key: str) -> None:
        self.patches, self.key = patches, key

    def __call__(self, weight: Tensor) -> Tensor:
        return calculate_weight(self.patches, weight, self.key)
