"""Attention whose modules are called with the transformer's options."""

from __future__ import annotations

from typing import Any

from clones import attend
from torch import Tensor

calls: list[int] = []
"""The heads of each call."""


def optimized_attention(
    q: Tensor, k: Tensor, v: Tensor, heads: int, mask: Tensor | None = None, **kwargs: Any
) -> Tensor:
    calls.append(heads)
    return attend(q, k, v, heads, mask)
