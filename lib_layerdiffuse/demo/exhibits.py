"""The parts of the demo: what is planned, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..imaging.images import ImageU8
from ..methods import Layer


@dataclass(frozen=True)
class Plan:
    """One part of the demo.

    Attributes:
        name: What its files are called after.
        title: For people.
        method: Id of the method, the first one of a chain.
        prompts: Of each layer that is made.
        given: Names of an earlier part and its layer to start from.
        seed: Of the first image.
    """

    name: str
    title: str
    method: str
    prompts: dict[Layer, str]
    given: tuple[str, Layer] | None = None
    seed: int = 1


@dataclass(frozen=True)
class Exhibit:
    """One image of the demo.

    Attributes:
        name: The layer, "given" for one that the part starts from, or "composite".
        caption: What it is, for people.
        pixels: RGB or straight RGBA, uint8.
        infotext: Empty for what no model drew here.
        path: Its file.
    """

    name: str
    caption: str
    pixels: ImageU8
    infotext: str
    path: Path


@dataclass(frozen=True)
class Part:
    """What one plan made: what was given, the layers in order, and the true composite."""

    plan: Plan
    exhibits: Sequence[Exhibit]

    def pixels(self, name: str) -> ImageU8:
        """Returns the image of that name."""
        return next(one.pixels for one in self.exhibits if one.name == name)
