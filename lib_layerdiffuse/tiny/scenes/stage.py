"""Where a subject stands in its image, and the marks that it is painted with."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

Field = npt.NDArray[np.float32]
"""Float32 values of pixels, H W or H W 3."""

RGB = tuple[float, float, float]


def mix(a: Field, b: Field | RGB, amount: Field) -> Field:
    """Image a, H W 3, with image or colour b in the amount H W of 0..1."""
    other: Field = np.asarray(b, np.float32)
    return a + (other - a) * amount[..., None]


def smooth(x: Field, low: float, high: float) -> Field:
    """From 0 where x is low to 1 where it is high (which may be the smaller), without corners."""
    t: Field = np.clip((x - np.float32(low)) / np.float32(high - low), 0, 1)
    return t * t * (3 - 2 * t)


def noise(rng: np.random.Generator, size: int, cells: Sequence[int]) -> Field:
    """Smooth noise of about 0..1, size × size. Each entry of cells adds an octave of half the
    height, with so many cells along a side; the draw does not depend on the size."""
    total: Field = np.zeros((size, size), np.float32)
    height = 1.0
    for n in cells:
        grid = rng.random((n + 1, n + 1), dtype=np.float32)
        octave = cv2.resize(grid, (size, size), interpolation=cv2.INTER_CUBIC)
        total += np.asarray(octave, np.float32) * np.float32(height)
        height /= 2
    return total / np.float32(2 - 2 * height)


def shade(colour: RGB, tone: Field) -> Field:
    """Colour H W 3, lit by tone H W: -1 is a third of its light, 0 the colour itself, 1 white."""
    base: Field = np.array(colour, np.float32)
    dark: Field = np.clip(1 + np.float32(0.67) * np.minimum(tone, 0), 0.3, 1)
    return mix(base * dark[..., None], (1.0, 1.0, 1.0), np.clip(tone, 0, 1))


class Stage:
    """A subject's own coordinates on an image of size × size pixels.

    u (right) and v (down) turn with the subject, x and y do not; all are 0 at its centre and in
    units of its radius. d is the distance from the centre. A subject stays where d < 1.
    """

    def __init__(self, size: int, centre: tuple[float, float], radius: float, angle: float) -> None:
        """Centre and radius are in pixels, the angle in radians clockwise."""
        self.size, self.centre, self.radius = size, centre, radius
        self.cos, self.sin = float(np.cos(angle)), float(np.sin(angle))
        ruler: Field = np.arange(size, dtype=np.float32) + np.float32(0.5)
        self.x: Field = np.repeat(((ruler - centre[0]) / radius)[None], size, 0).astype(np.float32)
        self.y: Field = np.repeat(((ruler - centre[1]) / radius)[:, None], size, 1).astype(
            np.float32
        )
        self.u: Field = self.x * self.cos + self.y * self.sin
        self.v: Field = self.y * self.cos - self.x * self.sin
        self.d: Field = np.hypot(self.x, self.y)

    def within(self, distance: Field) -> Field:
        """1 where the signed distance (in radii) is positive, with an edge of one pixel."""
        return np.clip(distance * np.float32(self.radius) + np.float32(0.5), 0, 1)

    def ellipse(self, u: float, v: float, ru: float, rv: float, angle: float = 0.0) -> Field:
        """The mask of an ellipse at (u, v) with half axes ru and rv, turned by an angle."""
        c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        a, b = self.u - np.float32(u), self.v - np.float32(v)
        p, q = a * c + b * s, b * c - a * s
        k: Field = np.hypot(p / np.float32(ru), q / np.float32(rv))
        slope: Field = np.hypot(p / np.float32(ru * ru), q / np.float32(rv * rv))
        return self.within(k * (1 - k) / np.maximum(slope, np.float32(1e-3)))

    def polygon(self, points: npt.ArrayLike) -> Field:
        """The mask of the polygon with the corners (u, v)."""
        p = np.asarray(points, np.float64)
        x = p[:, 0] * self.cos - p[:, 1] * self.sin
        y = p[:, 0] * self.sin + p[:, 1] * self.cos
        pixels = np.stack([x, y], 1) * self.radius + self.centre
        mask = np.zeros((2 * self.size, 2 * self.size), np.uint8)
        corners = np.round((2 * pixels - 0.5) * 16).astype(np.int32)
        cv2.fillPoly(mask, [corners], (255,), lineType=cv2.LINE_AA, shift=4)
        small = cv2.resize(mask, (self.size, self.size), interpolation=cv2.INTER_AREA)
        return small.astype(np.float32) / np.float32(255)

    def light(self) -> Field:
        """The tone of a sphere of radius 1 that is lit from above on the left, -0.7..0.4."""
        z: Field = np.sqrt(np.clip(1 - self.d * self.d, 0, 1))
        lit: Field = -0.42 * self.x - 0.55 * self.y + 0.72 * z
        return np.clip(lit - 0.55, -0.7, 0.3)

    def spot(self, x: float, y: float, radius: float) -> Field:
        """A round spot of light, 1 at (x, y), which does not turn with the subject."""
        away = (self.x - np.float32(x)) ** 2 + (self.y - np.float32(y)) ** 2
        return np.exp(-away / np.float32(radius * radius))
