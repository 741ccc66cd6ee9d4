"""One linear projection with a LoRA of its own for each frame of a set.

Source: the released attention-sharing files' `to_{q,k,v,out}_lora.{f}` keys.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable

import torch
from torch import Tensor, nn

_FLOATS = (torch.float32, torch.float16, torch.bfloat16)


class FrameLinear(nn.Module):
    """One projection of the base model with a LoRA of its own for each frame.

    Where the base layer shows an ordinary float `weight`, `W + strength · up @ down` is merged
    once and kept until that parameter is another one (the host merged a user's LoRA, say). Over
    any other callable (a quantised layer, say) the base runs as it is and the delta is added.
    The base layer's parameters are read, never owned or changed.
    """

    def __init__(self, ups: list[Tensor], downs: list[Tensor], strength: float) -> None:
        super().__init__()
        self.ups, self.downs = (
            ups,
            downs,
        )  # Plain lists: the factors stay on the CPU, in mapped files.
        self.strength = strength
        shape = (len(ups), ups[0].shape[0], downs[0].shape[1])
        self.weight = nn.Parameter(torch.empty(shape), requires_grad=False)
        self._source: object = None

    def forward(self, x: Tensor, base: Callable[[Tensor], Tensor]) -> Tensor:
        """Returns `f m out` for `f m in`."""
        merged = self._refresh(base, x)
        y = torch.bmm(x, self.weight.transpose(1, 2))
        if not merged:
            return y + base(x)
        bias = getattr(base, "bias", None)
        return y if bias is None else y + bias.to(y)

    def _refresh(self, base: Callable[[Tensor], Tensor], x: Tensor) -> bool:
        source = _mergeable_weight(base, self.weight.shape[1:])
        key = _identity(source)
        stale = self._source is None or not _same(self._source, key)
        if stale or self.weight.dtype != x.dtype or self.weight.device != x.device:
            up, down = (
                torch.stack(list(t)).to(x.device, torch.float32) for t in (self.ups, self.downs)
            )
            weight = torch.bmm(up, down).mul_(self.strength)
            if source is not None:
                weight += source.detach().to(x.device, torch.float32)
            self.weight = nn.Parameter(weight.to(x.dtype), requires_grad=False)
            self._source = key
        return source is not None


def _mergeable_weight(base: Callable[[Tensor], Tensor], shape: torch.Size) -> Tensor | None:
    weight = getattr(base, "weight", None)
    plain = isinstance(weight, Tensor) and weight.dtype in _FLOATS and weight.shape == shape
    return weight if plain else None


def _identity(weight: Tensor | None) -> object:
    if weight is None:
        return "added"
    return weakref.ref(weight), None if weight.is_inference() else weight._version


def _same(a: object, b: object) -> bool:
    if isinstance(a, str) or isinstance(b, str):
        return a == b
    (ref_a, version_a), (ref_b, version_b) = a, b  # type: ignore[misc]
    return ref_a() is ref_b() and version_a == version_b
