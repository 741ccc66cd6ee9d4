"""One linear projection with a LoRA of its own for each frame of a set.

Source: the released attention-sharing files' `to_{q,k,v,out}_lora.{f}` keys.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

_FLOATS = (torch.float32, torch.float16, torch.bfloat16)


class FrameLinear(nn.Module):
    """One projection of the base model with a LoRA of its own for each frame.

    Where the base layer shows an ordinary float `weight`, `W + strength · up @ down` is merged
    once and kept until that parameter is another one (the host merged a user's LoRA, say), or the
    module's own is (a memory manager put back what it had at first). Over any other callable (a
    quantised layer, say) the base runs as it is and the delta is added.
    The base layer's parameters are read, never owned or changed.
    """

    def __init__(self, ups: list[Tensor], downs: list[Tensor], strength: float) -> None:
        super().__init__()
        # Plain lists, not parameters: the factors stay on the CPU, in the mapped file.
        self.ups, self.downs, self.strength = ups, downs, strength
        shape = (len(ups), ups[0].shape[0], downs[0].shape[1])
        self.weight = nn.Parameter(torch.empty(shape), requires_grad=False)
        self._merged_from: tuple[Callable[[], Tensor | None], int] | None = None
        self._merged: Callable[[], Tensor | None] = lambda: None

    def _apply(self, fn: Callable[[Tensor], Tensor], *args: Any, **more: Any) -> FrameLinear:
        """Moves or casts the module; a cast forgets the merge, which has lost digits or has few."""
        before = self.weight.dtype
        apply: Any = super()._apply
        apply(fn, *args, **more)
        if self.weight.dtype is not before:
            self._merged_from = None
        return self

    def forward(self, x: Tensor, base: Callable[[Tensor], Tensor]) -> Tensor:
        """Returns `f m out` for `f m in`."""
        source = _mergeable_weight(base, self.weight.shape[1:])
        if not self._is_current(source, x):
            self._merge(source, x)
        y = torch.bmm(x, self.weight.transpose(1, 2))
        if source is None:
            return y + base(x)
        bias = getattr(base, "bias", None)
        return y if bias is None else y + bias.to(y)

    def _is_current(self, source: Tensor | None, x: Tensor) -> bool:
        here = self.weight.dtype is x.dtype and self.weight.device == x.device
        if self._merged_from is None or self._merged() is not self.weight or not here:
            return False
        merged, version = self._merged_from
        return merged() is source and version == _version(source)

    def _merge(self, source: Tensor | None, x: Tensor) -> None:
        up, down = (
            torch.stack(factors).to(x.device, torch.float32) for factors in (self.ups, self.downs)
        )
        weight = torch.bmm(up, down).mul_(self.strength)
        if source is not None:
            weight += source.detach().to(weight)
        self.weight = nn.Parameter(weight.to(x.dtype), requires_grad=False)
        self._merged = weakref.ref(self.weight)
        self._merged_from = (
            (lambda: None) if source is None else weakref.ref(source),
            _version(source),
        )


def _mergeable_weight(base: Callable[[Tensor], Tensor], shape: torch.Size) -> Tensor | None:
    weight = getattr(base, "weight", None)
    if isinstance(weight, Tensor) and weight.dtype in _FLOATS and weight.shape == shape:
        return weight
    return None


def _version(source: Tensor | None) -> int:
    """Returns a number that grows with each change in place; 0 where torch keeps none."""
    if source is None:
        return -1
    return 0 if source.is_inference() else source._version
