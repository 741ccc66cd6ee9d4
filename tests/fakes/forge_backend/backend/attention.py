"""Attention over `r n c`; notes that it was called."""

from __future__ import annotations

from clones import attend
from torch import Tensor

calls: list[int] = []
"""The heads of each call."""


def attention_function(
    q: Tensor, k: Tensor, v: Tensor, heads: int, mask: Tensor | None = None
) -> Tensor:
    calls.append(heads)
    return attend(q, k, v, heads, mask)
