"""What is measured of the tiny family's images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..imaging.images import FloatImage, flatten
from ..quality.composites import psnr
from ..tiny import scenes

GLASSY = ("glass ball", "soap bubble", "glowing orb", "puff of smoke")
"""The soft kinds that are compared with the solid ones."""


@dataclass(frozen=True)
class Figure:
    """One measured number.

    Attributes:
        part: The codec or method.
        name: What was measured, with its unit.
        value: The number.
        goal: What it should be at least, or at most where `at_most`.
        control: The same with the method switched off, or of shuffled layers; None for none.
        count: Over how many images.
    """

    part: str
    name: str
    value: float
    goal: float
    control: float | None
    count: int
    at_most: bool = False

    @property
    def reached(self) -> bool:
        """Whether the goal is met."""
        return self.value <= self.goal if self.at_most else self.value >= self.goal

    def as_dict(self) -> dict[str, Any]:
        """Returns it for JSON."""
        return {**vars(self), "reached": self.reached}


def round_trip_errors(seen: FloatImage, truth: FloatImage, colour: Sequence[float]) -> list[float]:
    """Returns what an image lost: the alpha's mean error, and the PSNR on black, white and colour.

    Args:
        seen: `h w 4`, straight.
        truth: `h w 4`, straight.
        colour: R G B in [0, 1], the third one to lay both on.
    """
    over = [psnr(flatten(seen, below), flatten(truth, below)) for below in (0.0, 1.0, colour)]
    return [float(np.abs(seen[..., 3] - truth[..., 3]).mean()), *over]


def matched_psnr(
    seen: Sequence[FloatImage],
    truth: Sequence[FloatImage],
    where: Sequence[npt.NDArray[np.bool_]] | None = None,
) -> tuple[float, float]:
    """Returns the mean PSNR of the pairs, and of pairs that do not belong together.

    Pairs without any pixel to look at do not count.
    """
    count = len(seen)

    def mean(shift: int) -> float:
        at = [None] * count if where is None else where
        found = [psnr(seen[i], truth[(i + shift) % count], at[i]) for i in range(count)]
        return float(np.nanmean(found))

    return mean(0), mean(1)


def foreground_figures(
    made: Sequence[FloatImage], drawn: Sequence[scenes.Scene]
) -> dict[str, float]:
    """Returns how many stand alone, how many have their colour, and how soft the soft ones are."""
    alone, coloured = [], []
    softness: dict[bool, list[float]] = {True: [], False: []}
    for rgba, scene in zip(made, drawn, strict=True):
        alpha, kind = rgba[..., 3], scene.subject.kind
        cover = scenes.coverage(alpha)
        alone.append(scenes.border_alpha(alpha) <= 0.05 and 0.03 <= cover <= 0.85)
        coloured.append(cover > 0 and scenes.named_colour(rgba) == scene.subject.colour)
        if kind.name in GLASSY or not kind.soft:
            softness[kind.soft].append(scenes.soft_fraction(alpha))
    soft, solid = (float(np.mean(softness[kind] or [0])) for kind in (True, False))
    return {
        "alone on nothing, %": 100 * float(np.mean(alone)),
        "named colour, %": 100 * float(np.mean(coloured)),
        "softness ratio": soft / max(solid, 1e-6),
    }
