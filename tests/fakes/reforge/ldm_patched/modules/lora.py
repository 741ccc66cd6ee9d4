"""Patches into a weight."""

from __future__ import annotations

import logging
from typing import Any

from managed_patcher import merge
from torch import Tensor

from ldm_patched.modules import weight_adapter

__all__ = ["calculate_weight", "weight_adapter"]


def calculate_weight(patches: list[Any], weight: Tensor, key: str) -> Tensor:
    """Returns a weight, which is changed, with patches added; others only reach the log."""
    return merge(patches, weight, key, logging.getLogger("lora").warning)
