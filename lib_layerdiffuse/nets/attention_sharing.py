"""Attention sharing for SD1.5: the frames of a set look at each other in every attention layer.

Axes: b sets · f frames · n tokens · c channels · h w latent rows and columns.
Source: the released files' keys and shapes, and Zhang & Agrawala, arXiv:2402.17113.

Batch rows are `(b f)` with the frame fastest. Inside a layer they are kept as `f b n c`, so that
one batched product serves all frames. Three things are folded once for each file and strength,
instead of being computed at each step: `W + strength · up @ down`, the cross-frame block's
`temporal_i` (with the norm's affine part) into q, k and v, and, for one frame, where attention
over frames is the identity, the whole cross-frame block into one affine map.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import ChecksumError, HostError
from .control_encoder import ControlEncoder, control_convs
from .cross_frame import CrossFrame
from .frame_linear import FrameLinear
from .sharing_layout import ENCODER, HINT, PREFIX, SLOTS, SharingLayout, layout_of

# UNet level of the sixteen transformer blocks: input 1 2 4 5 7 8, output 3..11, middle.
BLOCK_LEVELS = (0, 0, 1, 1, 2, 2, 2, 2, 2, 1, 1, 1, 0, 0, 0, 3)

Projection = Callable[[Tensor], Tensor]
Attend = Callable[[Tensor, Tensor, Tensor, int], Tensor]


@dataclass(frozen=True)
class BaseAttention:
    """The UNet's own attention module, as a host shows it.

    Attributes:
        heads: Number of heads.
        to_q: Query projection, `… c` to `… c`; likewise `to_k`, `to_v` and `to_out`. A layer whose
            float `weight` may be read and merged is passed as it is; any other as a function.
    """

    heads: int
    to_q: Projection
    to_k: Projection
    to_v: Projection
    to_out: Projection


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """Returns plain attention of `r n c` over `r m c`, as `r n c`; no mask."""
    q, k, v = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


class SharedAttention(nn.Module):
    """What one attention module of the UNet computes while a method acts."""

    def __init__(self, tensors: Mapping[str, Tensor], frames: int, strength: float) -> None:
        super().__init__()
        self.frames, self.strength = frames, strength
        for name in ("q", "k", "v", "out"):
            lora = [f"to_{name}_lora.{f}" for f in range(frames)]
            ups = [tensors[f"{key}.up.weight"] for key in lora]
            downs = [tensors[f"{key}.down.weight"] for key in lora]
            self.add_module(name, FrameLinear(ups, downs, strength))
        temporal = {k[9:]: t for k, t in tensors.items() if k.startswith("temporal_")}
        self.cross = CrossFrame(temporal, frames, strength)
        self.control = control_convs(tensors, frames)

    q: FrameLinear
    k: FrameLinear
    v: FrameLinear
    out: FrameLinear

    def control_tokens(self, signal: Tensor) -> Tensor:
        """Returns what the control image adds to this layer's input, `f 1 n c`.

        Args:
            signal: The control encoder's output at this layer's resolution, `1 256 h w`.
        """
        tokens = [conv(signal).flatten(2).transpose(1, 2) for conv in self.control]
        return torch.stack(tokens) * self.strength

    def forward(
        self,
        base: BaseAttention,
        x: Tensor,
        context: Tensor | None = None,
        value: Tensor | None = None,
        control: Tensor | None = None,
        attend: Attend = attend,
        *,
        is_self: bool = False,
    ) -> Tensor:
        """Returns what the block adds to its residual stream, `(b f) n c`.

        Args:
            base: The UNet's own attention module.
            x: Its layer-normed input, `(b f) n c`.
            context: Keys' and values' input `(b f) m d`; None or `x` itself for self-attention.
            value: Values' input where it differs from `context`.
            control: `control_tokens`, or None.
            attend: The host's attention over `r n c`.
            is_self: Whether `context` and `value` are of the image, too, and not of a prompt.
        """
        f, (rows, n, _) = self.frames, x.shape

        def own(tokens: Tensor) -> Tensor:
            first = _frames_first(tokens, f)
            if control is None:
                return first
            return (first.unflatten(1, (-1, n)) + control).flatten(1, 2)

        # A patch of another extension hands over keys and values of self-attention by themselves.
        other = own if is_self else partial(_frames_first, frames=f)
        h = own(x)
        c = h if context is None or context is x else other(context)
        d = c if value is None or value is context else other(value)
        q, k, v = (
            layer(t, linear).reshape(rows, -1, layer.weight.shape[1])
            for layer, t, linear in (
                (self.q, h, base.to_q),
                (self.k, c, base.to_k),
                (self.v, d, base.to_v),
            )
        )
        attended = attend(q, k, v, base.heads)
        delta = self.out(attended.reshape(f, -1, attended.shape[-1]), base.to_out)
        delta = delta + self.cross(h + delta, base.heads)
        delta = delta.unflatten(1, (-1, n))
        if control is not None:
            delta = delta + control
        return delta.transpose(0, 1).reshape(rows, n, -1)


def _frames_first(x: Tensor, frames: int) -> Tensor:
    """Returns `f (b n) c` for `(b f) n c`."""
    return x.unflatten(0, (-1, frames)).transpose(0, 1).flatten(1, 2)


class AttentionSharing(nn.Module):
    """A sharing file's 32 layers, folded for one strength, and its control encoder if any."""

    def __init__(
        self, layers: list[SharedAttention], encoder: ControlEncoder | None, layout: SharingLayout
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.encoder = encoder
        self.frames = layout.frames
        self.layout = layout

    @classmethod
    def from_state_dict(cls, tensors: Mapping[str, Tensor], strength: float) -> AttentionSharing:
        """Returns the module for a released file's tensors.

        Args:
            tensors: Keys `hookers.layers.{0..31}.…` and, with control, `kwargs_encoder.…`.
            strength: Scales the LoRA deltas, the cross-frame output and the control signal.

        Raises:
            ChecksumError: The keys or shapes are not those of a sharing file.
        """
        layout = layout_of(tensors)
        try:
            layers = [
                SharedAttention(_under(tensors, f"{PREFIX}{slot}."), layout.frames, strength)
                for slot in range(SLOTS)
            ]
            encoder = ControlEncoder(_under(tensors, ENCODER)) if layout.control else None
        except (KeyError, RuntimeError, ValueError) as error:
            raise ChecksumError(
                f"The file is damaged or not one of an SD1.5 method: it does not fit at {error}.",
                HINT,
            ) from error
        return cls(layers, encoder, layout)


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}


class SharingRun:
    """One run: a sharing module with the run's control image and the host's attention.

    What the control image adds to each layer is computed at the layer's first call and kept,
    since it is the same at every step.
    """

    def __init__(
        self, sharing: AttentionSharing, control: Tensor | None = None, attend: Attend = attend
    ) -> None:
        self.sharing, self.control, self.attend = sharing, control, attend
        self._rows: int | None = None
        self._part: int | None = None
        self._signals: list[Tensor] | None = None
        self._tokens: dict[int, Tensor] = {}

    def begin_call(self, rows: int, part: int | None = None) -> None:
        """Notes the batch of the coming UNet call, which each layer's rows are checked against.

        Args:
            rows: Its rows.
            part: The rows of one conditioning, where other extensions may repeat those as a whole,
                as for regions: that keeps sets together. None where nobody does.

        Raises:
            HostError: The rows are not whole sets.
        """
        frames = self.sharing.frames
        if rows % frames or (part is not None and part % frames):
            raise _regrouped(f"the UNet was called for {rows} rows, no whole sets of {frames}")
        self._rows, self._part = rows, part

    def _fillers(self, x: Tensor) -> int:
        """Returns how many empty rows follow the sets, to make the batch even.

        Raises:
            HostError: The rows are not those of the UNet call, nor its conditionings repeated.
        """
        rows = x.shape[0]
        expected, part, frames = self._rows or rows, self._part, self.sharing.frames
        if rows == expected and not rows % frames:
            return 0
        fillers = 0 if part is None or rows <= expected else rows % part
        if part is None or rows <= expected or (fillers and x[-fillers:].any()):
            raise _regrouped(
                f"{rows} rows reach one of the UNet's layers in a call for {expected}, "
                f"in whole sets of {frames}"
            )
        return fillers

    def __call__(
        self,
        slot: int,
        base: BaseAttention,
        x: Tensor,
        context: Tensor | None = None,
        value: Tensor | None = None,
    ) -> Tensor:
        """Returns attention module `slot`'s output, `(b f) n c`; see `SharedAttention.forward`.

        Raises:
            HostError: The rows are not those of the UNet call, or the tokens not those of the
                image.
        """
        fillers = self._fillers(x)
        if fillers:
            sets = slice(len(x) - fillers)
            x = x[sets]
            context, value = (t if t is None else t[sets] for t in (context, value))
        control = self._control(slot, x)
        out: Tensor = self.sharing.layers[slot](
            base, x, context, value, control, self.attend, is_self=slot % 2 == 0
        )
        return F.pad(out, (0, 0, 0, 0, 0, fillers)) if fillers else out

    def _control(self, slot: int, x: Tensor) -> Tensor | None:
        encoder = self.sharing.encoder
        if encoder is None or self.control is None:
            return None
        if slot not in self._tokens:
            if self._signals is None:
                self._signals = encoder(self.control.to(x))
            signal = self._signals[BLOCK_LEVELS[slot // 2]]
            layer = self.sharing.layers[slot]
            assert isinstance(layer, SharedAttention)
            self._tokens[slot] = layer.control_tokens(signal)
        tokens = self._tokens[slot]
        if tokens.shape[2] != x.shape[1]:
            raise HostError(
                f"An extension or node regroups the image's tokens: {x.shape[1]} at one of the "
                f"UNet's layers instead of {tokens.shape[2]}.",
                "Turn off token merging, HyperTile and other extensions or nodes that regroup "
                "tokens.",
            )
        return tokens


def _regrouped(what: str) -> HostError:
    hint = "Turn off extensions or nodes that regroup the batch."
    return HostError(f"An extension or node regroups the batch: {what} layers.", hint)
