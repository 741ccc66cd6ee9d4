"""Kinds of subjects, their colours, and which pairs of the two are never trained on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import cv2
import numpy as np

from . import soft, solid
from .stage import RGB, Field, Stage

Rng = np.random.Generator


@dataclass(frozen=True)
class Kind:
    """A kind of subject. One that is soft is partly transparent over most of its area."""

    name: str
    soft: bool


@dataclass(frozen=True)
class Subject:
    """What a layer shows. The size and the position may be empty: medium, and in the centre."""

    kind: Kind
    colour: str
    size: str = ""
    position: str = ""

    @property
    def caption(self) -> str:
        """Such as "a small red star on the left"."""
        words = " ".join(w for w in (self.size, self.colour, self.kind.name, self.position) if w)
        return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


COLOURS: Mapping[str, RGB] = {
    "red": (0.88, 0.12, 0.14),
    "orange": (1.0, 0.52, 0.06),
    "yellow": (0.99, 0.88, 0.14),
    "green": (0.16, 0.7, 0.22),
    "cyan": (0.12, 0.82, 0.86),
    "blue": (0.12, 0.3, 0.92),
    "purple": (0.6, 0.18, 0.78),
    "white": (0.96, 0.96, 0.97),
}
"""The colours of subjects, straight RGB in 0..1."""

SIZES: Mapping[str, tuple[float, float]] = {
    "small": (18.5, 21.5),
    "": (31.0, 36.0),
    "large": (47.0, 52.0),
}
"""The least and the greatest radius of a disc, in pixels of 128."""

POSITIONS: Mapping[str, float] = {"": 0.5, "on the left": 0.29, "on the right": 0.71}
"""How far right the centre is, in 0..1."""

MARGIN = 5.0
"""The empty border around a subject, in pixels of 128."""


@dataclass(frozen=True)
class _Look:
    paint: Callable[[Stage, RGB, Rng], tuple[Field, Field]]
    spin: float  # The greatest angle, in radians.
    stretch: float  # Radius over that of a disc of about the same area.


_LOOKS: Mapping[Kind, _Look] = {
    Kind("glass ball", True): _Look(soft.glass_ball, 0.3, 1.0),
    Kind("glowing orb", True): _Look(soft.glowing_orb, 0.0, 1.12),
    Kind("puff of smoke", True): _Look(soft.puff_of_smoke, 3.0, 1.2),
    Kind("fur ball", True): _Look(soft.fur_ball, 3.0, 1.2),
    Kind("soap bubble", True): _Look(soft.soap_bubble, 0.3, 1.0),
    Kind("flame", True): _Look(soft.flame, 0.12, 1.42),
    Kind("ball", False): _Look(solid.ball, 0.3, 1.0),
    Kind("cube", False): _Look(solid.cube, 0.12, 1.1),
    Kind("star", False): _Look(solid.star, 0.3, 1.4),
    Kind("heart", False): _Look(solid.heart, 0.2, 1.2),
    Kind("flower", False): _Look(solid.flower, 0.5, 1.15),
    Kind("mushroom", False): _Look(solid.mushroom, 0.15, 1.3),
    Kind("fish", False): _Look(solid.fish, 0.2, 1.4),
    Kind("cup", False): _Look(solid.cup, 0.12, 1.3),
    Kind("gem", False): _Look(solid.gem, 0.15, 1.35),
    Kind("butterfly", False): _Look(solid.butterfly, 0.3, 1.35),
}

KINDS: tuple[Kind, ...] = tuple(_LOOKS)

_HELD_OUT = frozenset(
    {
        ("glass ball", "green"),
        ("fur ball", "blue"),
        ("soap bubble", "orange"),
        ("flame", "purple"),
        ("ball", "white"),
        ("cube", "yellow"),
        ("star", "cyan"),
        ("heart", "green"),
        ("flower", "blue"),
        ("mushroom", "purple"),
        ("fish", "red"),
    }
)


def kind_named(name: str) -> Kind:
    """The kind of this name. Raises KeyError."""
    return {kind.name: kind for kind in KINDS}[name]


def held_out(kind: Kind, colour: str) -> bool:
    """Whether the pair is kept for evaluation and never drawn for training."""
    return (kind.name, colour) in _HELD_OUT


def paint(subject: Subject, rng: Rng, size: int) -> Field:
    """The subject, straight RGBA H W 4 in 0..1; the colour goes on where alpha is 0."""
    look = _LOOKS[subject.kind]
    pixel = size / 128
    least, greatest = SIZES[subject.size]
    limit = 45.0 if subject.position else 64.0 - MARGIN
    radius = min(rng.uniform(least, greatest) * look.stretch, limit) * pixel
    reach = radius + MARGIN * pixel
    goal = (POSITIONS[subject.position] + rng.uniform(-0.03, 0.03), 0.5 + rng.uniform(-0.07, 0.07))
    x, y = (float(np.clip(place * size, reach, size - reach)) for place in goal)
    stage = Stage(size, (x, y), radius, rng.uniform(-look.spin, look.spin))
    tint = np.array(COLOURS[subject.colour]) * rng.uniform(0.95, 1.0)
    tint = np.clip(tint + rng.uniform(-0.02, 0.02, 3), 0, 1)
    colour, alpha = look.paint(stage, (float(tint[0]), float(tint[1]), float(tint[2])), rng)
    return np.clip(np.dstack([colour, alpha]), 0, 1).astype(np.float32)


def _lab(rgb: Field) -> Field:
    """CIELAB of straight sRGB n 3 in 0..1."""
    image = np.ascontiguousarray(rgb[None], np.float32)
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2LAB)[0], np.float32)


def named_colour(rgba: Field) -> str:
    """The name in COLOURS that is nearest to the mean colour of a straight RGBA image H W 4.

    The mean is weighted by alpha. Distances are in CIELAB, with lightness at 0.3 of its weight:
    shading changes it more than the hue.
    """
    weight = rgba[..., 3].astype(np.float64)
    mean = (rgba[..., :3] * weight[..., None]).sum((0, 1)) / max(weight.sum(), 1e-6)
    colours = np.array([*COLOURS.values(), mean], np.float32)
    lab = _lab(colours) * np.array([0.3, 1, 1], np.float32)
    return list(COLOURS)[int(np.argmin(np.linalg.norm(lab[:-1] - lab[-1], axis=1)))]
