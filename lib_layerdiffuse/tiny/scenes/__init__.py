"""Procedural images with captions: subjects with true alpha over backgrounds."""

from .backgrounds import BACKGROUNDS
from .scene import Scene, border_alpha, coverage, draw, render, scene, soft_fraction, vocabulary
from .subjects import (
    COLOURS,
    KINDS,
    POSITIONS,
    SIZES,
    Kind,
    Subject,
    held_out,
    kind_named,
    named_colour,
)

__all__ = [
    "BACKGROUNDS",
    "COLOURS",
    "KINDS",
    "POSITIONS",
    "SIZES",
    "Kind",
    "Scene",
    "Subject",
    "border_alpha",
    "coverage",
    "draw",
    "held_out",
    "kind_named",
    "named_colour",
    "render",
    "scene",
    "soft_fraction",
    "vocabulary",
]
