"""Networks that may be cast to half and back without losing a digit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

Self = TypeVar("Self", bound="CastsExactly")


class CastsExactly(nn.Module):
    """A module whose parameters, when their type changes, are made anew from their origin.

    The origin is a weight file's mapped tensors, so it takes no memory of its own.
    """

    origin: Callable[[], Mapping[str, Tensor]] | None = None
    """Returns what the parameters were made with, by name; None for modules without a file."""

    def _apply(self: Self, fn: Callable[[Tensor], Tensor], *args: Any, **more: Any) -> Self:
        """Moves or casts the module, as `to`, `half` and the like ask for."""
        before = {name: parameter.dtype for name, parameter in self.named_parameters()}
        apply: Any = super()._apply
        apply(fn, *args, **more)
        cast = [(n, p) for n, p in self.named_parameters() if p.dtype is not before[n]]
        if cast and self.origin is not None:
            origin = self.origin()
            for name, parameter in cast:
                parameter.data = torch.empty_like(parameter).copy_(origin[name])
        return self
