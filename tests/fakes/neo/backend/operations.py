"""Layers that change their weight in each call, where that is offloaded or a LoRA is online."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F


class _Lazy(nn.Module):
    """Has functions of its weight and bias, empty at first."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.weight_function: list[Any] = []
        self.bias_function: list[Any] = []

    def now(self, name: str) -> Tensor | None:
        """Returns the weight or the bias that it computes with."""
        value: Tensor | None = getattr(self, name)
        for function in getattr(self, f"{name}_function"):
            assert value is not None
            value = function(value.clone())  # It is changed in place.
        return value


class Linear(_Lazy, nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.now("weight"), self.now("bias")
        assert weight is not None
        return F.linear(x, weight, bias)


class Conv2d(_Lazy, nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.now("weight"), self.now("bias")
        assert weight is not None
        return self._conv_forward(x, weight, bias)
