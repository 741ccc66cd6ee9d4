"""Test-time augmentation of the decoder: the views of an image, and the median of the results.

A view is the image mirrored or not and turned by quarters. The network runs on up to eight of them
(a self-ensemble), each result is turned back, and the median of them is the decoder's.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from ..errors import SettingsError

Views = int | Literal["adaptive"]
"""How many views are taken; "adaptive" takes two, and two more while the median is not settled."""

ADAPTIVE: Literal["adaptive"] = "adaptive"

View = tuple[bool, int]

# (mirrored, quarter turns) of each view. The first two keep the image upright and the first four
# keep its format, so that fewer views are the ones nearest to what a network has learned from.
VIEWS = ((False, 0), (True, 0), (False, 2), (True, 2), (False, 1), (True, 1), (False, 3), (True, 3))


SETTLED, OF = 2 / 255, 0.999
"""How near the two middle values have to be, at what share of the values, to take no more views."""

CHOICES: tuple[Views, ...] = (8, 4, 2, 1, ADAPTIVE)
"""What is offered to choose from; the first is the default."""


def check_views(views: Views) -> None:
    """Checks a number of views.

    Raises:
        SettingsError: It is none.
    """
    if views != ADAPTIVE and not (isinstance(views, int) and 1 <= views <= len(VIEWS)):
        raise SettingsError(
            f"The decoder takes 1 to {len(VIEWS)} views, or {ADAPTIVE}, not {views}.",
            "Use 8 for the best alpha, or adaptive, 4, 2 or 1 to save time.",
        )


def read_views(text: str) -> Views:
    """Returns what a text such as "4" or "adaptive" names.

    Raises:
        SettingsError: It is no number of views.
    """
    named = text.lower() == ADAPTIVE
    views: Views = ADAPTIVE if named else int(text) if text.isdecimal() else 0
    check_views(views)
    return views


def most_views(views: Views) -> int:
    """Returns how many views are taken at most."""
    return len(VIEWS) if views == ADAPTIVE else int(views)


def turn(x: Tensor, mirrored: bool, turns: int) -> Tensor:
    """Returns a view of `b c h w`: mirrored left to right or not, then turned left."""
    return (x.flip(3) if mirrored else x).rot90(turns, dims=(2, 3))


def turn_back(x: Tensor, mirrored: bool, turns: int) -> Tensor:
    """Returns what `turn` was given."""
    upright = x.rot90(-turns, dims=(2, 3))
    return upright.flip(3) if mirrored else upright


class LowerMedian:
    """The element-wise lower median of up to `most` tensors of one shape, at any time.

    It is what `torch.median` returns over a new axis. Here it takes minima and maxima only, since
    `torch.median` fails on five axes on Apple's MPS, and holds half as many tensors.

    Attributes:
        added: How many tensors it is of.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.added = 0
        self._lowest: list[Tensor] = []  # the n-th holds each element's n-th lowest value

    def add(self, x: Tensor) -> None:
        """Takes another tensor into account."""
        for i, kept in enumerate(self._lowest):
            self._lowest[i], x = torch.minimum(kept, x), torch.maximum(kept, x)
        if len(self._lowest) < (self._most + 1) // 2:
            self._lowest.append(x)
        self.added += 1

    def settled(self) -> bool:
        """Whether further tensors are not likely to change the median by much.

        That is so where the two values in the middle are near each other nearly everywhere.
        """
        middle = self.added // 2
        if self.added % 2 or middle >= len(self._lowest):
            return False
        apart = self._lowest[middle] - self._lowest[middle - 1]
        near = apart <= SETTLED * (255 if apart.dtype is torch.uint8 else 1)
        return bool(near.float().mean() >= OF)

    @property
    def value(self) -> Tensor:
        """The median of the tensors added so far; at least one is needed."""
        return self._lowest[(self.added - 1) // 2]
