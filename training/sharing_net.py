"""Attention sharing as it is trained: nothing folded, the released files' names.

`lib_layerdiffuse.nets.attention_sharing` is the same computation with its weights merged, which
cannot be trained. Axes: b sets, f frames, n tokens, c channels.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lib_layerdiffuse.hosts.diffusers.parameter_names import diffusers_name, module_names
from lib_layerdiffuse.nets.cross_frame import NORM_EPS
from lib_layerdiffuse.nets.sharing_layout import SLOTS
from lib_layerdiffuse.weights.patches import ATTENTION_SLOTS

STRIDES = (1, 1, 2, 1, 2, 1, 2, 1)
CONTROL_WIDTHS = (16, 16, 24, 24, 32, 32, 20, 20)
"""Of the control encoder's first block."""


class LoRA(nn.Module):
    """up @ down, of which up starts at zero."""

    def __init__(self, inputs: int, outputs: int, rank: int) -> None:
        super().__init__()
        self.down = nn.Linear(inputs, rank, bias=False)
        self.up = nn.Linear(rank, outputs, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        delta: Tensor = self.up(self.down(x))
        return delta


class SharedLayer(nn.Module):
    """One attention module's part, which takes the place of its processor.

    Args:
        attention: diffusers' attention module.
        frames: Frames of a set.
        rank: Of each LoRA.
        control: Channels of the control encoder's signals; 0 for a method without.
    """

    def __init__(self, attention: Any, frames: int, rank: int, control: int) -> None:
        super().__init__()
        width, self.frames = attention.to_q.in_features, frames
        for name in ("q", "k", "v", "out"):
            base = attention.to_out[0] if name == "out" else getattr(attention, f"to_{name}")
            shape = base.in_features, base.out_features, rank
            self.add_module(f"to_{name}_lora", nn.ModuleList(LoRA(*shape) for _ in range(frames)))
        self.temporal_n = nn.LayerNorm(width, eps=NORM_EPS)
        for name in "iqkvo":
            self.add_module(f"temporal_{name}", nn.Linear(width, width))
        nn.init.eye_(self.temporal_i.weight)
        nn.init.zeros_(self.temporal_o.weight)
        for name in "ikqvo":
            nn.init.zeros_(getattr(self, f"temporal_{name}").bias)
        if control:
            self.control_convs = nn.ModuleList(
                nn.Sequential(
                    nn.Conv2d(control, control, 3, padding=1),
                    nn.SiLU(),
                    nn.Conv2d(control, width, 1),
                )
                for _ in range(frames)
            )
            for convs in self.control_convs:
                nn.init.zeros_(convs[2].weight)
                nn.init.zeros_(convs[2].bias)
        self.signals: dict[int, Tensor] = {}

    temporal_i: nn.Linear
    temporal_o: nn.Linear

    def forward(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        **_: Any,
    ) -> Tensor:
        """Returns what the block adds to its residual stream, `(b f) n c`."""
        f, (rows, n, _c) = self.frames, hidden_states.shape
        h = hidden_states.unflatten(0, (-1, f)).transpose(0, 1)  # f b n c
        start = h
        if self.signals:
            signal = self.signals[n]
            tokens = [convs(signal).flatten(2).transpose(1, 2) for convs in self.control_convs]
            h = h + torch.stack(tokens)
        if encoder_hidden_states is None:
            context = h
        else:
            context = encoder_hidden_states.unflatten(0, (-1, f)).transpose(0, 1)
        q, k, v = (
            self._project(name, getattr(attn, f"to_{name}"), x)
            for name, x in (("q", h), ("k", context), ("v", context))
        )
        parts = (x.flatten(0, 1).unflatten(-1, (attn.heads, -1)).transpose(1, 2) for x in (q, k, v))
        seen = F.scaled_dot_product_attention(*parts).transpose(1, 2).flatten(2)
        h = h + self._project("out", attn.to_out[0], seen.unflatten(0, (f, -1)))
        h = h + self._across_frames(h, attn.heads)
        return (h - start).transpose(0, 1).reshape(rows, n, -1)

    def _project(self, name: str, base: nn.Linear, x: Tensor) -> Tensor:
        loras = getattr(self, f"to_{name}_lora")
        delta = torch.stack([lora(frame) for lora, frame in zip(loras, x, strict=True)])
        return base(x) + delta

    def _across_frames(self, h: Tensor, heads: int) -> Tensor:
        x = self.temporal_i(self.temporal_n(h)).permute(1, 2, 0, 3).flatten(0, 1)  # (b n) f c
        if self.frames == 1:
            mixed = self.temporal_v(x)
        else:
            q, k, v = (
                getattr(self, f"temporal_{name}")(x).unflatten(-1, (heads, -1)).transpose(1, 2)
                for name in "qkv"
            )
            score = (q @ k.transpose(-1, -2)) * q.shape[-1] ** -0.5
            mixed = (score.softmax(-1) @ v).transpose(1, 2).flatten(2)
        out: Tensor = self.temporal_o(mixed)
        return out.unflatten(0, (h.shape[1], h.shape[2])).permute(2, 0, 1, 3)


class ControlNet(nn.Module):
    """The control encoder: signals at 1/8, 1/16, 1/32 and 1/64 of the image."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        last = widths[-1]
        pairs = zip((3, *widths[:-1]), widths, STRIDES, strict=True)
        self.blocks_0 = _convs([(a, b, s) for a, b, s in pairs])
        for name in ("blocks_1", "blocks_2", "blocks_3"):
            self.add_module(name, _convs([(last, last, 2), (last, last, 1)]))

    def forward(self, image: Tensor) -> dict[int, Tensor]:
        """Returns the signals `b c h w` by their number of tokens."""
        signals = {}
        for name in ("blocks_0", "blocks_1", "blocks_2", "blocks_3"):
            image = getattr(self, name)(image)
            signals[image.shape[2] * image.shape[3]] = image
        return signals


def _convs(layers: list[tuple[int, int, int]]) -> nn.Sequential:
    made = nn.Sequential()
    for inputs, outputs, stride in layers:
        made.append(nn.Conv2d(inputs, outputs, 3, stride, 1))
        made.append(nn.SiLU())
    return made


class Sharing(nn.Module):
    """What a sharing file holds, put on a UNet."""

    def __init__(
        self, unet: Any, frames: int, rank: int, control_widths: tuple[int, ...] = ()
    ) -> None:
        super().__init__()
        names = module_names(unet.config)
        slots = [str(diffusers_name(names, slot)) for slot in ATTENTION_SLOTS]
        last = control_widths[-1] if control_widths else 0
        modules = [unet.get_submodule(slot) for slot in slots]
        self.layers = nn.ModuleList(SharedLayer(m, frames, rank, last) for m in modules)
        assert len(self.layers) == SLOTS
        self.kwargs_encoder = ControlNet(control_widths) if control_widths else None
        for module, layer in zip(modules, self.layers, strict=True):
            module.set_processor(layer)

    def look_at(self, image: Tensor | None) -> None:
        """Sets the control images of the coming UNet call, `b 3 H W` in [-1, 1]."""
        if self.kwargs_encoder is not None and image is not None:
            signals = self.kwargs_encoder(image)
            for layer in self.layers:
                layer.signals = signals

    def tensors(self) -> dict[str, Tensor]:
        """Returns the tensors under the released files' names."""
        return {
            f"hookers.{name}" if name.startswith("layers.") else name: tensor
            for name, tensor in self.state_dict().items()
        }
