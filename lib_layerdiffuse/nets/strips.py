"""Feature maps that are computed strip by strip, with the result of the whole.

A strip stays in a processor's cache while it is normalised, activated and convolved, and takes
little memory where maps do not fit. A 3×3 convolution needs one more row on each side of a strip.
Group normalisation needs sums over the whole map: they are taken while a map is made, by channel,
so that any group of channels of any maps beside each other can be normalised with them. What a map
was made of is known, so that its values can be given up, and computed again where they are needed.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

Shape = tuple[int, int, int, int]

_ROWS = 8
"""The fewest rows of a strip: with less, the rows beside it are too large a part of the work."""


class Rows(ABC):
    """A feature map whose rows can be had.

    Attributes:
        shape: b, c, h, w.
    """

    shape: Shape

    @abstractmethod
    def rows(self, top: int, bottom: int) -> Tensor:
        """Returns `b c bottom-top w`, on the device that computes; not to be written to."""


class Given(Rows):
    """A tensor `b c h w`, wherever it is.

    Args:
        data: It.
        device: What computes.
    """

    def __init__(self, data: Tensor, device: torch.device) -> None:
        self.shape = _four(data.shape)
        self._data = data
        self._device = device

    def rows(self, top: int, bottom: int) -> Tensor:
        """Returns `b c bottom-top w`."""
        return self._data[:, :, top:bottom].to(self._device)


class Map(Rows):
    """What has been computed of a map: its sums, and its values while they are kept.

    Args:
        shape: Its shape.
        device: What computes.
        source: What makes it again; None for what cannot be given up for a time.
    """

    def __init__(self, shape: Shape, device: torch.device, source: Rows | None = None) -> None:
        self.shape = shape
        self.data: Tensor | None = None
        self._source = source
        self._device = device
        self._sums: list[Tensor] = []

    def rows(self, top: int, bottom: int) -> Tensor:
        """Returns `b c bottom-top w`, computed again where the values are not kept."""
        if self.data is None:
            assert self._source is not None
            return self._source.rows(top, bottom)
        return self.data[:, :, top:bottom].to(self._device)

    def add_sums(self, strip: Tensor) -> None:
        """Takes a strip into the sums."""
        wide = strip.float()
        sums = wide.sum((2, 3)), (wide * wide).sum((2, 3))
        self._sums.append(torch.stack(sums))

    def sums(self) -> Tensor:
        """Returns `2 b c`: the sums of each channel's values and of their squares."""
        stacked = torch.stack(self._sums)
        if stacked.device.type != "mps":  # It has no wider type.
            stacked = stacked.double()
        return stacked.sum(0)


class Workshop:
    """Makes maps, in memory that it uses again.

    Args:
        device: What computes.
        values: The most values of a strip.
    """

    def __init__(self, device: torch.device, values: float = math.inf) -> None:
        self._device = device
        self._values = values
        self._lent: Tensor | None = None
        self._free: dict[tuple[int, torch.dtype, torch.device], list[Tensor]] = {}

    def measured(self, source: Rows) -> Map:
        """Returns a map of which the sums alone are kept."""
        made = Map(source.shape, self._device, source)
        for top, bottom in self._strips(source):
            made.add_sums(source.rows(top, bottom))
        return made

    def kept(self, source: Rows, place: torch.device, into: Map | None = None) -> Map:
        """Returns a map whose values are kept.

        Args:
            source: What makes it.
            place: Where they are kept.
            into: A map of the same shape whose values may be written over, since `source` reads
                no more of them than the rows it is asked for.
        """
        made = Map(source.shape, self._device, source)
        if into is None or into.data is None or into.shape != made.shape:
            into, data = None, None
        else:
            data = into.data
        for top, bottom in self._strips(source):
            strip = source.rows(top, bottom)
            made.add_sums(strip)
            if data is None and bottom - top == made.shape[2] and strip.device == place:
                made.data = strip
                return made
            if data is None:
                data = self._empty(made.shape, strip, place)
            data[:, :, top:bottom] = strip
        if into is not None:
            into.data = None
        made.data = data
        return made

    def whole(self, data: Tensor) -> Map:
        """Returns the map that a tensor is."""
        made = Map(_four(data.shape), self._device)
        made.add_sums(data)
        made.data = data
        return made

    def drop(self, made: Map) -> None:
        """Gives up a map's values."""
        if made.data is not None:
            flat = made.data.permute(0, 2, 3, 1).flatten()
            self._free.setdefault(_kind(flat.numel(), flat), []).append(flat)
            made.data = None

    def forget(self) -> None:
        """Gives the memory of dropped maps back, where the next ones will be of another size."""
        self._free.clear()

    def scratch(self, shape: Shape, like: Tensor) -> Tensor:
        """Returns memory of a shape, which the next call lends again."""
        b, c, h, w = shape
        numel = b * c * h * w
        if self._lent is None or self._lent.numel() < numel:
            self._lent = like.new_empty(numel)
        return self._lent[:numel].view(b, h, w, c).permute(0, 3, 1, 2)

    def _strips(self, source: Rows) -> list[tuple[int, int]]:
        b, c, h, w = source.shape
        step = int(min(h, max(_ROWS, self._values // (b * c * w))))
        return [(top, min(top + step, h)) for top in range(0, h, step)]

    def _empty(self, shape: Shape, like: Tensor, place: torch.device) -> Tensor:
        b, c, h, w = shape
        free = self._free.get((b * c * h * w, like.dtype, place))
        flat = free.pop() if free else like.new_empty(b * c * h * w, device=place)
        return flat.view(b, h, w, c).permute(0, 3, 1, 2)


def _kind(numel: int, flat: Tensor) -> tuple[int, torch.dtype, torch.device]:
    return numel, flat.dtype, flat.device


def _four(shape: torch.Size) -> Shape:
    b, c, h, w = shape
    return b, c, h, w
