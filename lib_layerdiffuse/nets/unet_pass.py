"""One pass of the transparent decoder's network, strip by strip.

What it computes is what `UNet1024.forward` does; see `strips` for how.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .full_memory import room
from .strip_layers import Added, Convolved, Doubled
from .strips import Given, Map, Rows, Workshop
from .unet_blocks import ResidualBlock, SelfAttention


@dataclass(frozen=True)
class Thrift:
    """How a pass saves memory. None of it changes the result.

    Attributes:
        values: The most values of a strip.
        recomputed: How many of the finest level's skip connections are computed again on the way
            up instead of being kept, 0 to 2.
        on_host: Whether the maps of the fine levels are kept in the host's memory.
    """

    values: float
    recomputed: int = 0
    on_host: bool = False


_STRIP = {"cpu": 2**20}
"""Values of a strip: 4 MiB, of which some fit into a CPU's last cache."""
_STRIP_ELSEWHERE = 2**24
_STRIP_AWAY = 2**23
"""Where maps are in the host's memory, strips are most of what a device holds."""

_MAPS = (5, 4, 3)
"""The most that a pass holds, in maps of the finest level, with so many of them recomputed."""
MOST = _MAPS[0]
WHOLE = 11
"""The same of a pass over whole maps."""
_BYTES_OF_STRIPS = 30
"""What is held beside them for each value of a strip, in float32; less in half of it."""


def thrifts(
    device: torch.device, values: int, itemsize: int, free: int | None = None
) -> list[Thrift]:
    """Returns the ways to run a pass, from the first that fits into what is free on.

    Args:
        device: What computes.
        values: Those of one map of the finest level.
        itemsize: Bytes of a value.
        free: How many bytes are free; None where nobody knows.
    """
    strip = _STRIP.get(device.type, _STRIP_ELSEWHERE)
    most = room(device, free) - min(strip, values) * _BYTES_OF_STRIPS
    ways = [
        Thrift(strip, recomputed)
        for recomputed, maps in enumerate(_MAPS)
        if maps * values * itemsize <= most
    ]
    if device.type != "cpu":
        return [*ways, Thrift(_STRIP_AWAY, len(_MAPS) - 1, on_host=True)]
    last = Thrift(strip, len(_MAPS) - 1)
    return ways if last in ways else [*ways, last]


class Pass:
    """One pass.

    Args:
        thrift: How it saves memory.
        like: A parameter of the network: its type and device are what is computed in, and on.
        fine: How many levels are fine.
    """

    def __init__(self, thrift: Thrift, like: Tensor, fine: int) -> None:
        self.device = like.device
        self.dtype = like.dtype
        self._thrift = thrift
        self._workshop = Workshop(like.device, thrift.values)
        self._fine = fine
        self._level = 0
        self._skips: list[Map] = []

    def begin(self, pixels: Tensor, conv: nn.Conv2d) -> Map:
        """Returns the first map, of which the values are computed when they are needed."""
        x = self._workshop.measured(self._convolved([Given(pixels, self.device)], None, conv))
        self._skips.append(x)
        return x

    def down(self, block: Any, x: Map) -> Map:
        """Returns the next level's input, of a `DownBlock`."""
        first = self._level == 0
        for i, (resnet, attention) in enumerate(zip(block.resnets, block.attentions, strict=True)):
            over = x if first and i and self._thrift.recomputed > 1 else None
            before, x = x, self._residual(resnet, [x], over)
            if first and self._thrift.recomputed:
                self._workshop.drop(before)
            x = self._attended(attention, x)
            self._skips.append(x)
        for sample in block.downsamplers:
            before, self._level = x, self._level + 1
            x = self._kept(self._convolved([x], None, sample.conv))
            if first and self._thrift.recomputed > 1:
                self._workshop.drop(before)
            self._skips.append(x)
            self._workshop.forget()
        return x

    def plus(self, x: Map, added: Tensor) -> Map:
        """Returns a map and what is added to it."""
        return self._workshop.whole(x.rows(0, x.shape[2]) + added)

    def middle(self, block: Any, x: Map) -> Map:
        """Returns the deepest map, of a `MiddleBlock`."""
        x = self._attended(block.attentions[0], self._residual(block.resnets[0], [x]))
        return self._residual(block.resnets[1], [x], x)

    def up(self, block: Any, x: Map) -> Map:
        """Returns the next level's input, of an `UpBlock`."""
        for resnet, attention in zip(block.resnets, block.attentions, strict=True):
            skip = self._skips.pop()
            before, x = x, self._residual(resnet, [x, skip], x)
            for used in (before, skip):
                self._workshop.drop(used)
            x = self._attended(attention, x)
        for sample in block.upsamplers:
            before, self._level = x, self._level - 1
            x = self._kept(Doubled(x, sample.conv))
            self._workshop.drop(before)
            self._workshop.forget()
        return x

    def end(self, x: Map, norm: nn.GroupNorm, conv: nn.Conv2d) -> Tensor:
        """Returns `b c h w`, where maps of the finest level are kept."""
        made = self._kept(self._convolved([x], norm, conv)).data
        assert made is not None
        return made

    def _residual(self, block: ResidualBlock, sources: list[Map], over: Map | None = None) -> Map:
        """Returns a residual block's map, written over another where that is given."""
        between = self._kept(self._convolved(sources, block.norm1, block.conv1))
        second = self._convolved([between], block.norm2, block.conv2)
        made = self._kept(Added(second, sources, block.conv_shortcut), over)
        self._workshop.drop(between)
        return made

    def _attended(self, attention: nn.Module, x: Map) -> Map:
        if not isinstance(attention, SelfAttention):
            return x
        made = self._workshop.whole(attention(x.rows(0, x.shape[2])))
        self._workshop.drop(x)
        return made

    def _convolved(
        self, sources: Sequence[Rows], norm: nn.GroupNorm | None, conv: nn.Conv2d
    ) -> Convolved:
        return Convolved(sources, norm, conv, self._workshop.scratch)

    def _kept(self, source: Rows, over: Map | None = None) -> Map:
        away = self._thrift.on_host and self._level < self._fine
        place = torch.device("cpu") if away else self.device
        return self._workshop.kept(source, place, over)
