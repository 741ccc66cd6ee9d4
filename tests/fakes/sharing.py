"""Random attention-sharing files, and what they mean, written straight from their definition."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lib_layerdiffuse.weights.patches import ATTENTION_SLOTS

CONTROL = 8
LEVELS = [0, 0, 1, 1, 2, 2, 2, 2, 2, 1, 1, 1, 0, 0, 0, 3]


def random_file(
    frames: int, *, channels: int = 16, context: int = 12, rank: int = 4, control: bool = False
) -> dict[str, Tensor]:
    """Returns a small file with the released keys; seed torch before."""
    tensors: dict[str, Tensor] = {}

    def put(name: str, *shape: int, scale: float = 0.3) -> None:
        tensors[name] = torch.randn(shape) * scale

    for i in range(32):
        key, wide = f"hookers.layers.{i}.", context if i % 2 else channels
        for f in range(frames):
            for name, inner in (("q", channels), ("k", wide), ("v", wide), ("out", channels)):
                put(f"{key}to_{name}_lora.{f}.down.weight", rank, inner)
                put(f"{key}to_{name}_lora.{f}.up.weight", channels, rank)
            if control:
                put(f"{key}control_convs.{f}.0.weight", CONTROL, CONTROL, 3, 3, scale=0.1)
                put(f"{key}control_convs.{f}.0.bias", CONTROL)
                put(f"{key}control_convs.{f}.2.weight", channels, CONTROL, 1, 1)
                put(f"{key}control_convs.{f}.2.bias", channels)
        for name in "iqkvo":
            put(f"{key}temporal_{name}.weight", channels, channels)
            put(f"{key}temporal_{name}.bias", channels)
        put(f"{key}temporal_n.weight", channels, scale=1.0)
        put(f"{key}temporal_n.bias", channels)
    if control:
        widths = [3, 4, 4, 8, 8, 8, 8, CONTROL, CONTROL]
        convs = [(0, 2 * i, widths[i], widths[i + 1]) for i in range(8)]
        convs += [(s, i, CONTROL, CONTROL) for s in (1, 2, 3) for i in (0, 2)]
        for stage, i, narrow, wide in convs:
            put(f"kwargs_encoder.blocks_{stage}.{i}.weight", wide, narrow, 3, 3)
            put(f"kwargs_encoder.blocks_{stage}.{i}.bias", wide)
    return tensors


@dataclass
class Attention:
    """A base attention module: biasless q, k, v and a biased output layer."""

    heads: int
    to_q: nn.Linear
    to_k: nn.Linear
    to_v: nn.Linear
    to_out: nn.Linear

    @classmethod
    def random(cls, channels: int, context: int, heads: int) -> Attention:
        def linear(wide: int, bias: bool = False) -> nn.Linear:
            return nn.Linear(wide, channels, bias=bias)

        return cls(
            heads, linear(channels), linear(context), linear(context), linear(channels, True)
        )

    def __call__(self, x: Tensor, context: Tensor) -> Tensor:
        q, k, v = self.to_q(x), self.to_k(context), self.to_v(context)
        return self.to_out(softmax_attention(q, k, v, self.heads))


def softmax_attention(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    outs = []
    for qh, kh, vh in zip(*(t.chunk(heads, -1) for t in (q, k, v)), strict=True):
        outs.append(torch.softmax(qh @ kh.mT / qh.shape[-1] ** 0.5, -1) @ vh)
    return torch.cat(outs, -1)


def reference_signals(file: dict[str, Tensor], picture: Tensor) -> list[Tensor]:
    signals, h = [], picture
    for stage in range(4):
        for i in range(0, 16 if stage == 0 else 4, 2):
            key = f"kwargs_encoder.blocks_{stage}.{i}"
            stride = 2 if (i in (4, 8, 12) if stage == 0 else i == 0) else 1
            h = F.silu(F.conv2d(h, file[key + ".weight"], file[key + ".bias"], stride, 1))
        signals.append(h)
    return signals


def reference_attention(
    file: dict[str, Tensor],
    slot: int,
    base: Attention,
    x: Tensor,
    context: Tensor | None,
    frames: int,
    strength: float = 1.0,
    signals: list[Tensor] | None = None,
) -> Tensor:
    """Returns one shared attention, frame by frame and set by set as it is defined."""
    w = {k.split(".", 3)[3]: t for k, t in file.items() if k.startswith(f"hookers.layers.{slot}.")}
    h = x.clone()
    if signals is not None:
        signal = signals[LEVELS[slot // 2]]
        for f in range(frames):
            c = F.conv2d(
                signal, w[f"control_convs.{f}.0.weight"], w[f"control_convs.{f}.0.bias"], 1, 1
            )
            c = F.conv2d(
                F.silu(c), w[f"control_convs.{f}.2.weight"], w[f"control_convs.{f}.2.bias"]
            )
            h[f::frames] += strength * c.flatten(2).transpose(1, 2)

    def project(layer: nn.Linear, name: str, f: int, t: Tensor) -> Tensor:
        up, down = (w[f"to_{name}_lora.{f}.{part}.weight"] for part in ("up", "down"))
        return layer(t) + strength * (t @ down.T) @ up.T

    mixed = h.clone()
    for f in range(frames):
        t = h[f::frames] if context is None else context[f::frames]
        q = project(base.to_q, "q", f, h[f::frames])
        k, v = project(base.to_k, "k", f, t), project(base.to_v, "v", f, t)
        out = softmax_attention(q, k, v, base.heads)
        mixed[f::frames] += project(base.to_out, "out", f, out)

    def temporal(name: str, t: Tensor) -> Tensor:
        return F.linear(t, w[f"temporal_{name}.weight"], w[f"temporal_{name}.bias"])

    normed = F.layer_norm(
        mixed, mixed.shape[-1:], w["temporal_n.weight"], w["temporal_n.bias"], 1e-6
    )
    inner = temporal("i", normed)
    q, k, v = (temporal(name, inner) for name in "qkv")
    result = mixed.clone()
    for s in range(0, x.shape[0], frames):
        frames_of_tokens = (t[s : s + frames].transpose(0, 1) for t in (q, k, v))
        o = softmax_attention(*frames_of_tokens, base.heads)
        result[s : s + frames] += strength * temporal("o", o).transpose(0, 1)
    return result - x


def use_reference(
    unet: nn.Module,
    file: dict[str, Tensor],
    frames: int,
    strength: float,
    control: Tensor | None,
) -> None:
    """Makes a UNet's attention modules, with ldm's names, compute the definition."""
    signals = None if control is None else reference_signals(file, control)
    for slot, path in enumerate(ATTENTION_SLOTS):
        module: Any = unet.get_submodule(path)
        base = Attention(module.heads, module.to_q, module.to_k, module.to_v, module.to_out[0])

        def forward(
            x: Tensor,
            context: Tensor | None = None,
            slot: int = slot,
            base: Attention = base,
            **_: object,
        ) -> Tensor:
            return reference_attention(file, slot, base, x, context, frames, strength, signals)

        module.forward = forward
