"""Painters of solid subjects: alpha is 0 or 1 but for an edge of about one pixel.

Each returns straight colour H W 3, which goes on beyond the silhouette, and alpha H W.
"""

from __future__ import annotations

import numpy as np

from .stage import RGB, Field, Stage, mix, shade

Rng = np.random.Generator
Painted = tuple[Field, Field]

CREAM = (0.95, 0.91, 0.82)
INK = (0.12, 0.11, 0.16)
HONEY = (0.98, 0.76, 0.2)


def near(colour: RGB, other: RGB, amount: float) -> RGB:
    """Colour, with an amount of another."""
    r, g, b = (a + (c - a) * amount for a, c in zip(colour, other, strict=True))
    return (r, g, b)


def ball(stage: Stage, colour: RGB, rng: Rng) -> Painted:
    """A shiny ball."""
    tone = stage.light() + 0.75 * stage.spot(-0.36, -0.42, rng.uniform(0.17, 0.24))
    return shade(colour, tone), stage.ellipse(0, 0, 0.98, 0.98)


def cube(stage: Stage, colour: RGB, rng: Rng) -> Painted:
    """A cube that is seen from one corner."""
    left, right, down = (-0.85, -0.49), (0.85, -0.49), (0.0, 0.98)
    corners = [(0, -0.98), right, (0.85, 0.49), down, (-0.85, 0.49), left]
    top = stage.polygon([(0, 0), (-2.55, -1.47), (0, -4), (2.55, -1.47)])
    dark = stage.polygon([(0, 0), (2.55, -1.47), (4, 4), (0, 3)])
    tone = -0.12 + 0.1 * stage.u - dark * rng.uniform(0.38, 0.48)
    tone = tone * (1 - top) + top * rng.uniform(0.3, 0.42)
    return shade(colour, tone - 0.08 * stage.v), stage.polygon(corners)


def star(stage: Stage, colour: RGB, rng: Rng) -> Painted:
    """A star of five points, each with a lit and a shaded side."""
    inner = rng.uniform(0.46, 0.54)
    turns = np.arange(10) * np.pi / 5 - np.pi / 2
    radii = np.where(np.arange(10) % 2, inner, 0.98)
    side = np.sin(5 * (np.arctan2(stage.v, stage.u) + np.pi / 2))
    facets = np.clip(side * stage.d * np.float32(stage.radius / 4), -1, 1)
    tone = 0.02 - 0.2 * facets - 0.1 * stage.y
    points = np.stack([np.cos(turns) * radii, np.sin(turns) * radii], 1)
    return shade(colour, tone), stage.polygon(points)


def heart(stage: Stage, colour: RGB, rng: Rng) -> Painted:
    """A puffy heart."""
    t = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    u = 16 * np.sin(t) ** 3
    v = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t))
    tone = 0.8 * stage.light() + 0.1
    tone = tone + 0.65 * stage.spot(-0.45, -0.4, rng.uniform(0.15, 0.22))
    return shade(colour, tone), stage.polygon(np.stack([u, v - 2.5], 1) / 17.2)


def flower(stage: Stage, colour: RGB, rng: Rng) -> Painted:
    """A flower of six petals around a small heart."""
    t = np.linspace(0, 2 * np.pi, 120, endpoint=False)
    radii = 0.6 + 0.38 * np.sqrt(np.abs(np.cos(3 * t)))
    petals = stage.polygon(np.stack([np.cos(t) * radii, np.sin(t) * radii], 1))
    seam = np.abs(np.cos(3 * np.arctan2(stage.v, stage.u)))
    tone = 0.16 - 0.42 * (1 - np.sqrt(seam)) - 0.25 * (1 - np.clip(stage.d, 0, 1))
    middle = (0.55, 0.3, 0.12) if colour[1] > 0.45 and colour[2] < 0.3 else HONEY
    hub = stage.ellipse(0, 0, 0.24, 0.24)
    lit: Field = np.asarray(tone + rng.uniform(-0.05, 0.05), np.float32)
    return mix(shade(colour, lit), middle, hub), petals


def mushroom(stage: Stage, colour: RGB, rng: Rng) -> Painted:
    """A toadstool: a cap with three light dots on a pale stem."""
    t = np.linspace(np.pi, 2 * np.pi, 40)
    brim = np.linspace(0, np.pi, 20)[1:-1]
    dome = np.stack([0.95 * np.cos(t), 0.12 + 0.97 * np.sin(t)], 1)
    sag = np.stack([0.95 * np.cos(brim), 0.12 + 0.16 * np.sin(brim)], 1)
    cap = stage.polygon(np.concatenate([dome, sag]))
    stem = stage.polygon(
        [(-0.2, 0.1), (0.2, 0.1), (0.27, 0.9), (0.1, 0.96), (-0.1, 0.96), (-0.27, 0.9)]
    )
    tone = 0.12 - 0.32 * stage.y - 0.3 * stage.x
    image = shade(colour, np.clip(tone, -0.5, 0.35))
    pale = shade(near(CREAM, colour, 0.2), -0.35 * stage.x - 0.15)
    below = stage.ellipse(0, 0.6, 0.5, 0.46) * (1 - cap)
    image = mix(image, pale, below)
    for u, v, r in ((-0.42, -0.2, 0.15), (0.1, -0.5, 0.17), (0.52, -0.1, 0.13)):
        dot = stage.ellipse(u + rng.uniform(-0.05, 0.05), v, r, r * 0.9)
        image = mix(image, near(CREAM, colour, 0.05), dot)
    return image, np.maximum(cap, stem)


def fish(stage: Stage, colour: RGB, rng: Rng) -> Painted:
    """A fish that looks to the left or to the right."""
    way = 1.0 if rng.random() < 0.5 else -1.0
    body = stage.ellipse(way * 0.2, 0, 0.74, 0.5)
    tail = stage.polygon(
        [(-way * 0.35, 0), (-way * 0.9, -0.42), (-way * 0.72, 0), (-way * 0.9, 0.42)]
    )
    fins = stage.polygon(
        [(way * 0.5, -0.4), (way * 0.05, -0.72), (-way * 0.25, -0.66), (-way * 0.2, -0.3)]
    )
    image = shade(colour, np.clip(0.05 - 0.55 * stage.v, -0.4, 0.4))
    limbs = np.maximum(tail, fins) * (1 - body)
    image = mix(image, shade(colour, np.full_like(stage.u, -0.3)), limbs)
    side = stage.polygon([(way * 0.25, 0.08), (-way * 0.15, -0.12), (-way * 0.15, 0.3)])
    image = mix(image, shade(colour, np.full_like(stage.u, -0.35)), side)
    image = mix(image, (1.0, 1.0, 1.0), stage.ellipse(way * 0.6, -0.12, 0.14, 0.14))
    image = mix(image, INK, stage.ellipse(way * 0.62, -0.12, 0.085, 0.085))
    return image, np.maximum(body, np.maximum(tail, fins))


def cup(stage: Stage, colour: RGB, rng: Rng) -> Painted:
    """A cup with a handle on one side."""
    way = 1.0 if rng.random() < 0.5 else -1.0
    t = np.linspace(0, np.pi, 24)
    foot = np.stack([0.46 * np.cos(t), 0.62 + 0.14 * np.sin(t)], 1)
    u0 = -way * 0.18
    sides = np.concatenate([[(-0.6, -0.55)], [(0.6, -0.55)], foot]) + np.array((u0, 0))
    body = np.maximum(stage.polygon(sides), stage.ellipse(u0, -0.55, 0.6, 0.16))
    ring = stage.ellipse(way * 0.44, 0.0, 0.42, 0.4)
    hole = stage.ellipse(way * 0.44, 0.0, 0.22, 0.2)
    handle = ring * (1 - hole)
    across = (stage.u - np.float32(u0)) / np.float32(0.6)
    tone = np.clip(0.18 - 0.45 * across - 0.25 * (across + 0.6) ** 2, -0.5, 0.3)
    tone = tone * body - 0.12 * (1 - body)
    image = shade(colour, tone)
    inside = shade(colour, np.clip(-0.45 + 0.25 * across, -0.7, 0))
    image = mix(image, shade(colour, np.full_like(tone, 0.3)), stage.ellipse(u0, -0.55, 0.64, 0.18))
    return mix(image, inside, stage.ellipse(u0, -0.54, 0.5, 0.1)), np.maximum(body, handle)


def gem(stage: Stage, colour: RGB, rng: Rng) -> Painted:
    """A cut gem that is seen from the side."""
    outline = [(-0.5, -0.62), (0.5, -0.62), (0.95, -0.15), (0, 0.92), (-0.95, -0.15)]
    wide = 3.0
    facets = [
        ([(-0.5, -0.62), (-0.3, -0.15), (-3, -0.15), (-3, -2), (-0.5, -2)], 0.08),
        ([(-0.5, -2), (0.5, -2), (0.5, -0.62), (0.3, -0.15), (-0.3, -0.15), (-0.5, -0.62)], 0.5),
        ([(0.5, -2), (3, -2), (3, -0.15), (0.3, -0.15), (0.5, -0.62)], -0.15),
        ([(-wide, -0.15), (-0.3, -0.15), (0, 0.92), (0, 3), (-wide, 3)], -0.05),
        ([(-0.3, -0.15), (0.3, -0.15), (0, 0.95)], 0.24),
        ([(0.3, -0.15), (wide, -0.15), (wide, 3), (0, 3), (0, 0.92)], -0.5),
    ]
    tone = np.zeros_like(stage.u)
    for corners, value in facets:
        mask = stage.polygon(corners)
        tone = tone + mask * (np.float32(value + rng.uniform(-0.05, 0.05)) - tone)
    return shade(colour, tone), stage.polygon(outline)


def butterfly(stage: Stage, colour: RGB, rng: Rng) -> Painted:
    """A butterfly with open wings."""
    open_ = rng.uniform(0.9, 1.02)
    wings = [stage.ellipse(way * 0.46 * open_, -0.3, 0.5, 0.36, way * -0.7) for way in (-1.0, 1.0)]
    wings += [stage.ellipse(way * 0.36 * open_, 0.38, 0.4, 0.28, way * 0.8) for way in (-1.0, 1.0)]
    upper, lower = np.maximum(wings[0], wings[1]), np.maximum(wings[2], wings[3])
    tone = 0.22 - 0.5 * np.abs(stage.d - 0.45) - 0.28 * (1 - upper)
    image = shade(colour, tone)
    for way in (-1.0, 1.0):
        spot = stage.ellipse(way * 0.56 * open_, -0.4, 0.15, 0.13)
        image = mix(image, near(colour, (1.0, 1.0, 1.0), 0.75), spot)
    body = stage.ellipse(0, 0.02, 0.085, 0.52)
    around = stage.ellipse(0, 0.02, 0.11, 0.56) * (1 - np.maximum(upper, lower))
    image = mix(image, INK, np.maximum(body, around))
    return image, np.maximum(body, np.maximum(upper, lower))
