"""The form that a LoRA has here."""

from __future__ import annotations

from typing import Any

from torch import Tensor


class LoRAAdapter:
    """A LoRA's parts: up, down, alpha, mid, DoRA's scale, shape."""

    def __init__(self, loaded_keys: set[str], weights: tuple[Any, ...]) -> None:
        self.loaded_keys, self.weights = loaded_keys, weights

    def add(self, weight: Tensor, strength: float) -> None:
        """Adds it to a weight, in place."""
        up, down, alpha, mid, scale, shape = self.weights
        assert alpha is mid is scale is shape is None
        weight += strength * (up @ down)
