"""Painters of soft subjects: most of their pixels let some of what is behind them through.

Each returns straight colour H W 3, which goes on beyond the silhouette, and alpha H W.
"""

from __future__ import annotations

import cv2
import numpy as np

from .stage import RGB, Field, Stage, mix, noise, shade, smooth

Rng = np.random.Generator
Painted = tuple[Field, Field]


def own_noise(stage: Stage, rng: Rng, cells: tuple[int, ...]) -> Field:
    """Noise that moves and grows with the subject, H W, of about 0..1."""
    side = 64
    grid = noise(rng, side, cells)
    x, y = ((axis + 1) * np.float32(side / 2 - 0.5) for axis in (stage.u, stage.v))
    moved = cv2.remap(grid, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(moved, np.float32)


def glass_ball(stage: Stage, colour: RGB, rng: Rng) -> Painted:
    """A ball of tinted glass: clear in the middle, denser at the rim, with a highlight."""
    d = np.clip(stage.d, 0, 1)
    shine = stage.spot(-0.38, -0.42, rng.uniform(0.13, 0.18))
    glint = smooth(stage.d, 0.55, 0.75) * smooth(stage.d, 0.95, 0.8) * stage.spot(0.5, 0.5, 0.4)
    alpha = 0.33 + 0.5 * d**4 + 0.1 * np.clip(stage.y, -0.5, 1)
    alpha = alpha + (0.97 - alpha) * np.clip(1.3 * shine, 0, 1) + 0.12 * glint
    tone = -0.28 * d**4 + 0.05 + 0.95 * shine + 0.35 * glint
    return shade(colour, tone), np.clip(alpha, 0, 1) * stage.ellipse(0, 0, 0.98, 0.98)


def glowing_orb(stage: Stage, colour: RGB, rng: Rng) -> Painted:
    """A light that fades away from its bright core."""
    d = np.clip(stage.d, 0, 1)
    alpha = np.float32(rng.uniform(0.9, 0.98)) * (1 - d * d) ** np.float32(1.6)
    return shade(colour, 0.85 * np.exp(-((d / 0.24) ** 2))), alpha


def puff_of_smoke(stage: Stage, colour: RGB, rng: Rng) -> Painted:
    """A billowing cloud of smoke without an edge."""
    puff = 1.1 * np.exp(-((stage.d / np.float32(0.5)) ** 2))
    turn = rng.uniform(0, 6.28)
    for i in range(6):
        angle, away = turn + i * 1.047 + rng.uniform(-0.3, 0.3), rng.uniform(0.4, 0.58)
        u, v, r = np.cos(angle) * away, np.sin(angle) * away, rng.uniform(0.2, 0.34)
        k = ((stage.u - np.float32(u)) ** 2 + (stage.v - np.float32(v)) ** 2) / np.float32(r * r)
        puff = puff + 0.75 * np.exp(-k)
    cloud = own_noise(stage, rng, (5, 9))
    alpha = 0.88 * smooth(puff * (0.55 + 0.8 * cloud), 0.08, 1.35) * smooth(stage.d, 1.0, 0.7)
    return shade(colour, 0.8 * (cloud - 0.42) - 0.15 * stage.y), alpha


def fur_ball(stage: Stage, colour: RGB, rng: Rng) -> Painted:
    """A ball of fur: dense in the middle, with strands that fade out."""
    strands = 40
    lengths = rng.uniform(0.82, 1.0, strands).astype(np.float32)
    swirl = np.float32(rng.uniform(-0.35, 0.35))
    turn = (np.arctan2(stage.v, stage.u) + swirl * stage.d) / np.float32(2 * np.pi)
    place = turn * strands
    index = np.floor(place).astype(np.int64)
    ridge = 1 - 2 * np.abs(place - index - 0.5)
    reach = lengths[index % strands] - 0.22 * (1 - ridge)
    alpha = 0.97 * smooth(reach - stage.d, 0.0, 0.5)
    comb = np.clip(stage.d * 1.4, 0, 1) * (ridge - 0.5)
    tone = 0.75 * stage.light() + 0.12 + 0.45 * comb
    return shade(colour, tone), alpha * smooth(stage.d, 1.0, 0.9)


def soap_bubble(stage: Stage, colour: RGB, rng: Rng) -> Painted:
    """A soap bubble: a thin bright rim around almost nothing."""
    d = np.clip(stage.d, 0, 1)
    film = own_noise(stage, rng, (3,))
    alpha = 0.13 + 0.12 * film + 0.62 * smooth(stage.d, 0.7, 0.97)
    shine = stage.spot(-0.45, -0.48, 0.15)
    arc = stage.spot(0.5, 0.52, 0.16)
    alpha = alpha + 0.7 * shine + 0.3 * arc
    tone = 0.25 * smooth(stage.d, 0.8, 1.0) * (film - 0.2) + 0.9 * shine + 0.5 * arc
    other: Field = 1 - np.float32(0.5) * np.array(colour, np.float32)
    image = mix(shade(colour, tone), other, 0.22 * film * (1 - d**6))
    return image, np.clip(alpha, 0, 0.95) * stage.ellipse(0, 0, 0.98, 0.98)


def flame(stage: Stage, colour: RGB, rng: Rng) -> Painted:
    """A flame: soft tongues, brighter and denser at their foot."""
    sway = rng.uniform(0.1, 0.2) * rng.choice((-1.0, 1.0))
    clear = np.ones_like(stage.u)
    core: Field = np.zeros_like(stage.u)
    tall: Field = np.clip((0.95 - stage.v) / np.float32(1.9), 0, 1)
    for place, height, wide in ((0.0, 1.0, 0.8), (-0.34, 0.66, 0.42), (0.34, 0.6, 0.42)):
        rise: Field = np.clip(tall / np.float32(height * rng.uniform(0.9, 1.0)), 0, 1)
        middle = np.float32(place) + np.float32(sway) * np.sin(tall * np.float32(4.5)) * rise
        width = np.float32(wide) * np.sqrt(np.clip(rise * 3, 0, 1)) * (1 - rise) ** np.float32(0.8)
        across: Field = np.abs(stage.u - middle) / (width + np.float32(1e-3))
        clear = clear * (1 - smooth(across, 1.0, 0.3) * (1 - 0.55 * rise))
        core = np.maximum(core, smooth(across, 0.7, 0.0) * smooth(rise, 0.6, 0.1) * wide)
    lick = own_noise(stage, rng, (4,)) - 0.5
    bowl = np.hypot(
        stage.u / np.float32(0.82), np.maximum(stage.v - np.float32(0.25), 0) / np.float32(0.7)
    )
    alpha = 0.93 * (1 - clear) * smooth(bowl, 1.0, 0.55) * smooth(stage.d, 1.0, 0.85)
    tone = 0.8 * core - 0.4 * (1 - core) * tall + 0.25 * lick
    return shade(colour, tone), alpha
