"""Painters of backgrounds: opaque colour H W 3 in 0..1, mostly of low frequency."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from .stage import RGB, Field, mix, noise, smooth

Rng = np.random.Generator


def grid(size: int) -> tuple[Field, Field]:
    """How far right and how far down each pixel is, H W in 0..1."""
    ruler: Field = (np.arange(size, dtype=np.float32) + np.float32(0.5)) / np.float32(size)
    return np.broadcast_to(ruler, (size, size)), np.broadcast_to(ruler[:, None], (size, size))


def jitter(rng: Rng, colour: RGB, amount: float = 0.04) -> RGB:
    """The colour, changed by at most so much in each channel."""
    r, g, b = np.clip(np.array(colour) + rng.uniform(-amount, amount, 3), 0, 1)
    return (float(r), float(g), float(b))


def fade(rng: Rng, down: Field, *colours: RGB) -> Field:
    """A vertical gradient through the colours, which vary a little, where down goes from 0 to 1."""
    stops = np.array([jitter(rng, c) for c in colours], np.float32)
    at = np.linspace(0, 1, len(stops))
    return np.stack([np.interp(down, at, stops[:, i]) for i in range(3)], -1).astype(np.float32)


def edge(down: Field, line: Field | float) -> Field:
    """1 below the line, 0 above it, with an edge of about a pixel of 128."""
    return np.clip((down - line) * np.float32(110) + np.float32(0.5), 0, 1)


def ridge(rng: Rng, right: Field, level: float, height: float, bumps: int) -> Field:
    """A wavy skyline: how far down it is at each pixel."""
    waves = sum(
        np.sin(
            right * np.float32(6.28 * k * rng.uniform(0.8, 1.2) / 2)
            + np.float32(rng.uniform(0, 6.28))
        )
        / np.float32(k)
        for k in range(1, bumps + 1)
    )
    return np.float32(level) + np.float32(height) * np.asarray(waves, np.float32)


def clear_blue_sky(rng: Rng, size: int) -> Field:
    """Blue that pales downwards, with a few soft clouds."""
    _, down = grid(size)
    sky = fade(rng, down, (0.2, 0.48, 0.88), (0.45, 0.7, 0.95), (0.74, 0.88, 0.98))
    cloud = noise(rng, size, (3, 6, 12)) * (0.7 + 0.4 * np.sin(down * np.float32(3.1)))
    return mix(sky, (0.98, 0.98, 1.0), 0.75 * smooth(cloud, rng.uniform(0.52, 0.6), 0.85))


def sunset(rng: Rng, size: int) -> Field:
    """A low sun over the sea."""
    right, down = grid(size)
    horizon = rng.uniform(0.62, 0.74)
    sky = fade(
        rng, down / np.float32(horizon), (0.28, 0.2, 0.45), (0.78, 0.33, 0.42), (0.99, 0.66, 0.3)
    )
    x, y = rng.uniform(0.2, 0.8), horizon - rng.uniform(0.04, 0.14)
    away = np.hypot(right - np.float32(x), down - np.float32(y))
    sky = mix(sky, (1.0, 0.83, 0.45), 0.6 * np.exp(-((away / 0.22) ** 2)))
    sky = mix(sky, (1.0, 0.95, 0.74), smooth(away, 0.1, 0.08))
    sea = fade(
        rng,
        (down - np.float32(horizon)) / np.float32(1 - horizon),
        (0.72, 0.36, 0.34),
        (0.2, 0.13, 0.3),
    )
    path = np.exp(-(((right - np.float32(x)) / 0.1) ** 2)) * (
        0.5 + 0.3 * np.sin(down * np.float32(75))
    )
    return mix(sky, mix(sea, (1.0, 0.76, 0.45), path * 0.8), edge(down, horizon))


def starry_night_sky(rng: Rng, size: int) -> Field:
    """Deep blue with a band of mist and large stars."""
    right, down = grid(size)
    sky = fade(rng, down, (0.03, 0.04, 0.14), (0.08, 0.09, 0.28), (0.18, 0.16, 0.4))
    sky = mix(sky, (0.4, 0.3, 0.6), 0.45 * smooth(noise(rng, size, (3, 6)), 0.5, 0.9))
    stars = int(rng.integers(14, 22))
    where, radius = rng.random((2, stars, 1)), rng.uniform(0.009, 0.016, (stars, 1))
    across = np.exp(-(((right[0] - where[0]) / radius) ** 2)).astype(np.float32)
    along = np.exp(-(((down[:, 0] - where[1]) / radius) ** 2)).astype(np.float32)
    return mix(sky, (1.0, 0.98, 0.9), np.minimum(along.T @ across, 1))


def green_meadow(rng: Rng, size: int) -> Field:
    """Rolling grass under a pale sky."""
    right, down = grid(size)
    level = rng.uniform(0.36, 0.5)
    image = fade(rng, down / np.float32(level), (0.5, 0.75, 0.95), (0.84, 0.93, 0.97))
    tuft = noise(rng, size, (5, 12)) - 0.5
    hills = (((0.42, 0.66, 0.36), 0.0), ((0.36, 0.64, 0.22), 0.14), ((0.28, 0.54, 0.16), 0.36))
    for colour, lower in hills:
        line = ridge(rng, right, level + lower, 0.035, 2)
        grass = fade(
            rng,
            (down - np.float32(level + lower)) * 2,
            colour,
            (0.8 * colour[0], 0.8 * colour[1], 0.8 * colour[2]),
        )
        image = mix(image, grass * (1 + 0.25 * tuft[..., None]), edge(down, line))
    return image


def sandy_beach(rng: Rng, size: int) -> Field:
    """Sand, surf, sea and sky."""
    right, down = grid(size)
    horizon, shore = rng.uniform(0.28, 0.38), rng.uniform(0.55, 0.66)
    image = fade(rng, down / np.float32(horizon), (0.4, 0.7, 0.94), (0.8, 0.92, 0.98))
    sea = fade(
        rng,
        (down - np.float32(horizon)) / np.float32(shore - horizon),
        (0.1, 0.45, 0.66),
        (0.32, 0.76, 0.78),
    )
    image = mix(image, sea, edge(down, horizon))
    line = ridge(rng, right, shore, 0.022, 3)
    image = mix(image, (0.97, 0.98, 0.98), edge(down, line - np.float32(0.045)))
    sand = fade(
        rng,
        (down - np.float32(shore)) / np.float32(1 - shore),
        (0.85, 0.74, 0.54),
        (0.93, 0.83, 0.62),
    )
    sand = sand * (1 + 0.14 * (noise(rng, size, (6, 14)) - 0.5))[..., None]
    return mix(image, sand, edge(down, line))


def snowy_mountain(rng: Rng, size: int) -> Field:
    """A peak with a white cap, and snow at its foot."""
    right, down = grid(size)
    image = fade(rng, down, (0.42, 0.62, 0.86), (0.78, 0.87, 0.95), (0.9, 0.93, 0.97))
    for share in (0.75, 1.0):
        x = rng.uniform(0.1, 0.9) if share < 1 else rng.uniform(0.32, 0.68)
        top, steep = 0.95 - share * rng.uniform(0.72, 0.84), rng.uniform(0.85, 1.1)
        side = right - np.float32(x)
        crag = (
            0.05 * np.sin(side * np.float32(rng.uniform(26, 34))) * np.clip(np.abs(side) * 4, 0, 1)
        )
        slope = np.float32(top) + np.abs(side) * np.float32(steep) + crag
        lit = np.clip(side * -40 + crag * 60 * (down - np.float32(top)) + 0.5, 0, 1)
        rock = mix(
            np.full((size, size, 3), jitter(rng, (0.33, 0.38, 0.5)), np.float32),
            (0.5, 0.54, 0.64),
            lit,
        )
        snow = mix(np.full((size, size, 3), (0.76, 0.82, 0.92), np.float32), (0.98, 0.99, 1.0), lit)
        tip = np.float32(top + 0.24) + 0.05 * np.sin(
            right * np.float32(40) + np.float32(rng.uniform(0, 6))
        )
        image = mix(image, mix(snow, rock, edge(down, tip)), edge(down, slope))
    ground = fade(rng, (down - np.float32(0.75)) * 4, (0.9, 0.93, 0.98), (0.78, 0.85, 0.95))
    return mix(image, ground, edge(down, ridge(rng, right, 0.8, 0.03, 2)))


def brick_wall(rng: Rng, size: int) -> Field:
    """Big bricks in rows."""
    right, down = grid(size)
    rows = int(rng.integers(6, 8))
    y = down * rows + np.float32(rng.random())
    row = np.floor(y)
    x = right * np.float32(rows / 2.2) + 0.5 * (row % 2) + np.float32(rng.random())
    column = np.floor(x)
    tints = rng.uniform(-0.13, 0.13, (16, 16)).astype(np.float32)
    tint = tints[row.astype(int) % 16, column.astype(int) % 16]
    base = np.array(jitter(rng, (0.66, 0.31, 0.24), 0.06), np.float32)
    brick = base * (1 + 1.2 * tint + 0.2 * (noise(rng, size, (8,)) - 0.5))[..., None]
    gap = np.minimum(0.5 - np.abs(y - row - 0.5), 2.2 * (0.5 - np.abs(x - column - 0.5)))
    return mix(np.clip(brick, 0, 1), jitter(rng, (0.76, 0.71, 0.66)), smooth(gap, 0.13, 0.07))


def wooden_table(rng: Rng, size: int) -> Field:
    """Broad planks with a soft grain."""
    right, down = grid(size)
    planks = int(rng.integers(4, 6))
    y = down * planks + np.float32(rng.random())
    board = np.floor(y)
    tints = rng.uniform(-0.12, 0.12, 16).astype(np.float32)[board.astype(int) % 16]
    shift = rng.uniform(0, 20, 16).astype(np.float32)[board.astype(int) % 16]
    bend = noise(rng, size, (3,))
    grain = np.sin((y - board) * 9 + bend * 7 + shift + right * 3)
    base = np.array(jitter(rng, (0.62, 0.4, 0.21), 0.05), np.float32)
    wood = base * (1 + tints + 0.09 * grain)[..., None]
    return mix(wood, (0.22, 0.12, 0.06), 0.85 * smooth(np.abs(y - board - 0.5), 0.44, 0.49))


def desert_with_dunes(rng: Rng, size: int) -> Field:
    """Dunes, each with a lit and a shaded side."""
    right, down = grid(size)
    level = rng.uniform(0.36, 0.48)
    image = fade(rng, down / np.float32(level), (0.42, 0.66, 0.9), (0.97, 0.88, 0.72))
    for lower, height in ((0.0, 0.05), (0.15, 0.06), (0.34, 0.08)):
        crest = rng.uniform(0.15, 0.85)
        side = right - np.float32(crest)
        line = (
            np.float32(level + lower) + np.abs(side) * np.float32(height * 3) - np.float32(height)
        )
        line = line + np.float32(0.012) * np.sin(right * 9)
        lit = smooth(side + 0.9 * (down - line), 0.04, -0.04)
        dune = fade(
            rng, (down - np.float32(level + lower)) * 2.5, (0.78, 0.5, 0.26), (0.7, 0.43, 0.22)
        )
        image = mix(image, mix(dune, jitter(rng, (0.95, 0.74, 0.44)), lit), edge(down, line))
    return image


def city_skyline_at_night(rng: Rng, size: int) -> Field:
    """Dark towers with lit windows before a glowing sky."""
    right, down = grid(size)
    image = fade(rng, down, (0.05, 0.06, 0.2), (0.2, 0.16, 0.42), (0.62, 0.34, 0.5))
    for depth, count in ((0.0, 6), (1.0, 5)):
        place = right * count + np.float32(rng.random())
        tower = np.floor(place)
        column = tower.astype(int) % 16
        tops = rng.uniform(0.3 + 0.2 * depth, 0.62 + 0.15 * depth, 16).astype(np.float32)[column]
        wall = np.array((0.16, 0.15, 0.33) if depth == 0 else (0.06, 0.07, 0.16), np.float32)
        image = mix(image, np.broadcast_to(wall, image.shape), edge(down, tops))
        if depth:
            wx, wy = (place - tower) * 2, (down - tops) * 12
            lit = rng.random((64, 64)) < 0.45
            cell = lit[(column * 2 + wx.astype(int)) % 64, np.abs(wy.astype(int)) % 64]
            pane = (np.abs(wx % 1 - 0.5) < 0.27) & (np.abs(wy % 1 - 0.5) < 0.3) & (wy > 0.6)
            image = mix(image, (1.0, 0.82, 0.42), (pane & cell).astype(np.float32) * 0.9)
    return image


def checkered_floor(rng: Rng, size: int) -> Field:
    """Tiles that shrink towards a plain wall."""
    right, down = grid(size)
    horizon = rng.uniform(0.36, 0.46)
    wall = fade(
        rng, down / np.float32(horizon), jitter(rng, (0.8, 0.77, 0.72), 0.12), (0.9, 0.88, 0.84)
    )
    depth = np.float32(0.75) / np.maximum(down - np.float32(horizon) + np.float32(0.22), 0.05)
    x = (right - np.float32(0.5)) * depth * 3 + np.float32(rng.random() * 2)
    z = depth * 3 + np.float32(rng.random() * 2)
    parity = np.sin(x * np.float32(np.pi)) * np.sin(z * np.float32(np.pi))
    dark = jitter(rng, (0.22, 0.22, 0.27), 0.1)
    light = np.full((size, size, 3), jitter(rng, (0.9, 0.88, 0.85)), np.float32)
    floor = mix(light, dark, np.clip(parity * 5 + 0.5, 0, 1)) * (0.75 + 0.25 * down)[..., None]
    return mix(wall, floor, edge(down, horizon))


Painter = Callable[[Rng, int], Field]

BACKGROUNDS: Mapping[str, Painter] = {
    "a clear blue sky": clear_blue_sky,
    "a sunset": sunset,
    "a starry night sky": starry_night_sky,
    "a green meadow": green_meadow,
    "a sandy beach": sandy_beach,
    "a snowy mountain": snowy_mountain,
    "a brick wall": brick_wall,
    "a wooden table": wooden_table,
    "a desert with dunes": desert_with_dunes,
    "a city skyline at night": city_skyline_at_night,
    "a checkered floor": checkered_floor,
}
"""Painters by caption."""
