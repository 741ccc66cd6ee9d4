"""The layers of the transparent decoder's network, for the rows that are asked for.

A 3×3 convolution asks for one more row on either side.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .strips import Map, Rows, Shape

_TAPS = (((1, 0, 0), (0, 1, 1)), ((1, 1, 0), (0, 0, 1)))
"""Which of three neighbours in a doubled row lie on which of two in the row before, for either."""


class Convolved(Rows):
    """Maps beside each other, normalised and activated, or as they are, and convolved by 3×3.

    Args:
        sources: The maps; with `norm`, ones with sums.
        norm: What normalises them before SiLU; None for neither.
        conv: The convolution.
        scratch: What lends memory for its input until the next strip of any map.
    """

    def __init__(
        self,
        sources: Sequence[Rows],
        norm: nn.GroupNorm | None,
        conv: nn.Conv2d,
        scratch: Callable[[Shape, Tensor], Tensor],
    ) -> None:
        b, _, h, w = sources[0].shape
        self._stride = conv.stride[0]
        self.shape = b, conv.out_channels, h // self._stride, w // self._stride
        self._sources = sources
        self._norm = norm
        self._conv = conv
        self._scratch = scratch
        self._affine: tuple[Tensor, Tensor] | None = None

    def rows(self, top: int, bottom: int) -> Tensor:
        """Returns `b c bottom-top w`."""
        conv, first = self._conv, top * self._stride - 1
        x = self._activated(first, (bottom - 1) * self._stride + 2)
        return F.conv2d(x, conv.weight, conv.bias, conv.stride, (0, 1))

    def _activated(self, first: int, end: int) -> Tensor:
        """Returns the convolution's input, with rows of 0 above and below the map."""
        b, _, h, w = self._sources[0].shape
        top, bottom = max(first, 0), min(end, h)
        inside = slice(top - first, bottom - first)
        strips = [source.rows(top, bottom) for source in self._sources]
        made = self._scratch((b, self._conv.in_channels, end - first, w), strips[0])
        made[:, :, : inside.start] = 0
        made[:, :, inside.stop :] = 0
        done = 0
        for x in strips:
            part = slice(done, done + x.shape[1])
            into = made[:, part, inside]
            if self._norm is None:
                into.copy_(x)
            else:
                scale, shift = self._scale_and_shift()
                torch.addcmul(shift[:, part], x, scale[:, part], out=into)
            done = part.stop
        if self._norm is not None:
            F.silu(made[:, :, inside], inplace=True)
        return made

    def _scale_and_shift(self) -> tuple[Tensor, Tensor]:
        """Returns what normalises each channel, twice `b c 1 1`: x · scale + shift."""
        if self._affine is None:
            norm = self._norm
            assert norm is not None
            assert all(isinstance(source, Map) for source in self._sources)
            found = [source.sums() for source in self._sources if isinstance(source, Map)]
            _, _, h, w = self._sources[0].shape
            grouped = torch.cat(found, 2).unflatten(2, (norm.num_groups, -1))
            mean, square = grouped.mean(3) / (h * w)
            scale = (square - mean**2).clamp(min=0).add(norm.eps).rsqrt()
            each = norm.num_channels // norm.num_groups
            scale = scale.repeat_interleave(each, 1) * norm.weight
            shift = norm.bias - mean.repeat_interleave(each, 1) * scale
            like = torch.promote_types(norm.weight.dtype, torch.float32)
            scale, shift = (x.to(like)[:, :, None, None] for x in (scale, shift))
            self._affine = scale, shift
        return self._affine


class Doubled(Rows):
    """A map with each place repeated twice in both directions, convolved by 3×3.

    Of nine weights those that meet the same place of the map before are added up, which leaves
    four of a kind for each place in the square that a place becomes. So less than half is computed.

    Args:
        source: The map.
        conv: The convolution.
    """

    def __init__(self, source: Rows, conv: nn.Conv2d) -> None:
        b, _, h, w = source.shape
        self.shape = b, conv.out_channels, 2 * h, 2 * w
        self._source = source
        self._bias = conv.bias
        taps = conv.weight.new_tensor(_TAPS)
        weight = torch.einsum("pyi,qxj,ocij->pqocyx", taps, taps, conv.weight)
        self._weight = weight.flatten(0, 2).contiguous(memory_format=torch.channels_last)

    def rows(self, top: int, bottom: int) -> Tensor:
        """Returns `b c bottom-top w`."""
        first, end = top // 2, -(-bottom // 2)
        x = self._source.rows(max(first - 1, 0), min(end + 1, self._source.shape[2]))
        x = F.pad(x, (1, 1, int(first == 0), int(end == self._source.shape[2])))
        b, channels, _, wide = self.shape
        made = x.new_empty(b, 2 * (end - first), wide, channels).permute(0, 3, 1, 2)
        bias = None if self._bias is None else self._bias.repeat(4)
        kinds = F.conv2d(x, self._weight, bias).unflatten(1, (2, 2, channels))
        for y in range(2):
            for z in range(2):
                kind = kinds[:, y, z, :, y : y + end - first, z : z + wide // 2]
                made[:, :, y::2, z::2] = kind
        return made[:, :, top - 2 * first : bottom - 2 * first]


class Added(Rows):
    """A map and the maps beside each other that it was made from, through a 1×1 convolution.

    Args:
        made: The map.
        sources: What it was made from.
        shortcut: The convolution; none where the channels fit.
    """

    def __init__(self, made: Rows, sources: Sequence[Rows], shortcut: nn.Module) -> None:
        self.shape = made.shape
        self._made = made
        self._sources = sources
        self._shortcut = shortcut

    def rows(self, top: int, bottom: int) -> Tensor:
        """Returns `b c bottom-top w`."""
        y, done = self._made.rows(top, bottom), 0
        for source in self._sources:
            x, into = source.rows(top, bottom), slice(done, done + source.shape[1])
            if isinstance(self._shortcut, nn.Conv2d):
                weight = self._shortcut.weight[:, into]
                x = F.conv2d(x, weight, None if done else self._shortcut.bias)
            y += x
            done = into.stop
        return y
