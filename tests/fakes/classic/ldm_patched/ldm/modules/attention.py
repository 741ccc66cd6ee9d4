"""Attention over `r n c`; notes that it was called."""

from __future__ import annotations

from clones import attend
from torch import Tensor, nn

calls: list[int] = []
"""The heads of each call."""


def optimized_attention(
    q: Tensor, k: Tensor, v: Tensor, heads: int, mask: Tensor | None = None
) -> Tensor:
    calls.append(heads)
    return attend(q, k, v, heads, mask)


class CrossAttention(nn.Module):
    def forward(
        self,
        x: Tensor,
        context: Tensor | None = None,
        value: Tensor | None = None,
        mask: Tensor | None = None,
        transformer_options: object = None,
    ) -> Tensor:
        raise NotImplementedError
