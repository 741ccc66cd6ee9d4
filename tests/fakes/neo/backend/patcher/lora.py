"""Patches into a weight."""

from __future__ import annotations

import logging
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from backend.patcher import adapters as weight_adapter

_log = logging.getLogger("lora")


def merge_lora_to_weight(patches: list[Any], weight: Tensor, key: str) -> Tensor:
    """Returns a weight, which is changed, with patches `(strength, patch, …)` added.

    A difference of another shape is left out with a warning, unless it says that it pads.
    """
    for strength, patch, *_ in patches:
        if isinstance(patch, weight_adapter.LoRAAdapter):
            patch.add(weight, strength)
            continue
        kind, parts = patch
        if kind != "diff":
            raise ValueError(f'"{key}" of type "{kind}" is not recognized...')
        delta: Tensor = parts[0]
        if len(parts) > 1 and parts[1]["pad_weight"] and delta.shape != weight.shape:
            more = [n - m for n, m in zip(delta.shape, weight.shape, strict=True)]
            weight = F.pad(weight, [side for n in reversed(more) for side in (0, n)])
        if delta.shape != weight.shape:
            _log.warning("SHAPE MISMATCH %s WEIGHT NOT MERGED", key)
            continue
        weight += strength * delta
    return weight
