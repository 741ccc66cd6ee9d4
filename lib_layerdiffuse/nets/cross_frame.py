"""Attention over the frames of a set, token by token.

Axes: f frames · m tokens of all sets · c channels.
Source: the released attention-sharing files' `temporal_*` keys and shapes.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .exact_cast import CastsExactly

NORM_EPS = 1e-6


class CrossFrame(CastsExactly):
    """Each spatial token's frames attend to each other; returns what is added, times strength."""

    def __init__(self, tensors: Mapping[str, Tensor], frames: int, strength: float) -> None:
        super().__init__()
        self.frames = frames
        self.origin = partial(_folded, tensors, frames, strength)
        folded = self.origin()
        self.inner = _linear(folded["inner.weight"], folded["inner.bias"])
        if frames > 1:
            self.outer = _linear(folded["outer.weight"], folded["outer.bias"])

    def forward(self, x: Tensor, heads: int) -> Tensor:
        """Returns `f m c` for `f m c`."""
        h = self.inner(F.layer_norm(x, x.shape[-1:], eps=NORM_EPS))
        if self.frames == 1:
            return h
        q, k, v = h.unflatten(-1, (3, heads, -1)).unbind(2)
        q = q * q.shape[-1] ** -0.5  # Before the product, which may be too large for half.
        score = torch.stack([(q * k_g).sum(-1) for k_g in k])
        share = score.softmax(0).unsqueeze(-1)
        mixed = share[0] * v[0]
        for share_g, v_g in zip(share[1:], v[1:], strict=True):
            mixed = torch.addcmul(mixed, share_g, v_g)
        return self.outer(mixed.flatten(2))


def _folded(tensors: Mapping[str, Tensor], frames: int, strength: float) -> dict[str, Tensor]:
    """Returns a cross-frame block's weights and biases, float32, by their names in the module."""
    t = {name: tensor.float() for name, tensor in tensors.items()}
    w_i = t["i.weight"] * t["n.weight"]
    b_i = t["i.weight"] @ t["n.bias"] + t["i.bias"]
    w_o, b_o = t["o.weight"] * strength, t["o.bias"] * strength
    if frames == 1:
        w_ov = w_o @ t["v.weight"]
        return {
            "inner.weight": w_ov @ w_i,
            "inner.bias": w_ov @ b_i + w_o @ t["v.bias"] + b_o,
        }
    return {
        "inner.weight": torch.cat([t[f"{x}.weight"] @ w_i for x in "qkv"]),
        "inner.bias": torch.cat([t[f"{x}.weight"] @ b_i + t[f"{x}.bias"] for x in "qkv"]),
        "outer.weight": w_o,
        "outer.bias": b_o,
    }


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    linear = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
    linear.load_state_dict({"weight": weight, "bias": bias}, assign=True)
    return linear.requires_grad_(False)
