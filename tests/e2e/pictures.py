"""Rendered conditioning images: a subject with true soft alpha and a scene to put it in.

Run ``python images.py FOLDER`` to look at them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np

OVERSAMPLING = 2  # rendered larger, then reduced, for smooth edges


def _grid(size: int) -> tuple[np.ndarray, np.ndarray]:
    axis = (np.arange(size, dtype=np.float32) + 0.5) / size * 2 - 1
    return np.meshgrid(axis, axis)


def _smooth(low: float, high: float, value: np.ndarray) -> np.ndarray:
    t = np.clip((value - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def _noise(size: int, cells: int, seed: int, octaves: int = 6, stretch: float = 1.0) -> np.ndarray:
    """Returns fractal noise between 0 and 1."""
    random = np.random.default_rng(seed)
    total = np.zeros((size, size), np.float32)
    for octave in range(octaves):
        count = cells * 2**octave
        coarse = random.random((count + 3, max(3, int(count / stretch)) + 3), np.float32)
        total += cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC) / 2**octave
    return (total - total.min()) / (total.max() - total.min())


def _over(base: np.ndarray, colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Composites a premultiplied RGBA base under a straight colour with its alpha."""
    alpha = alpha[..., None]
    layer = np.concatenate((np.broadcast_to(colour, (*alpha.shape[:2], 3)) * alpha, alpha), -1)
    return layer + base * (1 - alpha)


def _glow(x: np.ndarray, y: np.ndarray, radius: float) -> np.ndarray:
    distance = np.maximum(np.hypot(x, y) - radius, 0)
    return 0.55 * np.exp(-distance * 7) * _smooth(0.98, 0.80, np.hypot(x, y))


def _hair(size: int, radius: float) -> np.ndarray:
    """Draws a tuft of thin tapering hairs on top of the ball and returns its coverage."""
    random = np.random.default_rng(7)
    coverage = np.zeros((size, size), np.float32)
    t = np.linspace(0, 1, 24)
    for _ in range(150):
        angle = np.radians(random.uniform(-125, -55))
        length, bend = random.uniform(0.14, 0.34), random.uniform(-0.9, 0.9)
        along = angle + bend * t
        x = radius * 0.97 * np.cos(angle) + np.cumsum(np.cos(along)) * length / t.size
        y = 0.08 + radius * 0.97 * np.sin(angle) + np.cumsum(np.sin(along)) * length / t.size
        points = np.stack((x, y), -1) * size / 2 + size / 2
        strand = np.zeros((size, size), np.uint8)
        for i in range(t.size - 1):
            a, b = (np.round(points[j] * 16).astype(int) for j in (i, i + 1))
            width = max(1, round((1 - t[i]) * size / 300))
            cv2.line(strand, a.tolist(), b.tolist(), 255, width, cv2.LINE_AA, 4)
        coverage = np.maximum(coverage, strand.astype(np.float32) / 255 * random.uniform(0.5, 1))
    return coverage


def _ball(base: np.ndarray, x: np.ndarray, y: np.ndarray, radius: float) -> np.ndarray:
    """Composites a glass ball: clear in the middle, dense at the rim, with highlights."""
    rho = np.hypot(x, y) / radius
    z = np.sqrt(np.clip(1 - rho**2, 0, 1))
    inside = _smooth(1.0, 0.985, rho)
    body = 0.5 + 0.5 * np.clip(y / radius, -1, 1)[..., None]
    tint = np.array([0.10, 0.35, 0.62]) * (1 - body) + np.array([0.35, 0.85, 0.80]) * body
    swirl = np.sin(9 * np.arctan2(y, x) + 14 * rho + 3 * z)[..., None]
    tint = tint * (1 + 0.10 * swirl)
    fresnel = (1 - z) ** 2
    base = _over(base, np.clip(tint, 0, 1), inside * np.clip(0.22 + 0.75 * fresnel, 0, 1))
    caustic = np.exp(-(((x - 0.12) / 0.24) ** 2 + ((y - 0.33) / 0.10) ** 2))
    base = _over(base, np.array([0.95, 1.0, 0.9]), inside * 0.6 * caustic)
    light = np.exp(-(((x + 0.22) / 0.13) ** 2 + ((y + 0.24) / 0.08) ** 2) * 1.3)
    base = _over(base, np.array([1.0, 1.0, 1.0]), inside * np.clip(1.15 * light, 0, 1))
    ring = np.exp(-(((rho - 0.93) / 0.03) ** 2)) * _smooth(0.1, 0.9, (x - y) / radius)
    return _over(base, np.array([0.85, 0.95, 1.0]), inside * 0.7 * ring)


def glass_ball(size: int = 512) -> np.ndarray:
    """Renders a glowing glass ball with a tuft of hair.

    Args:
        size: Width and height.

    Returns:
        Straight-alpha RGBA, uint8; the colour under alpha 0 is black.
    """
    large, radius = size * OVERSAMPLING, 0.56
    x, y = _grid(large)
    y = y - 0.08
    picture = np.zeros((large, large, 4), np.float32)
    picture = _over(picture, np.array([0.45, 0.80, 1.0]), _glow(x, y, radius))
    picture = _over(picture, np.array([0.78, 0.36, 0.14]), _hair(large, radius))
    picture = _ball(picture, x, y, radius)
    picture = cv2.resize(picture.astype(np.float32), (size, size), interpolation=cv2.INTER_AREA)
    alpha = picture[..., 3:]
    straight = np.where(alpha > 1 / 512, picture[..., :3] / np.maximum(alpha, 1e-6), 0)
    return np.round(np.clip(np.concatenate((straight, alpha), -1), 0, 1) * 255).astype(np.uint8)


def _sky(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    height = _smooth(-1.0, 0.2, y)[..., None]
    sky = np.array([0.20, 0.42, 0.74]) * (1 - height) + np.array([0.98, 0.80, 0.60]) * height
    sun = np.hypot(x - 0.45, y + 0.22)[..., None]
    sky = sky + np.array([0.9, 0.6, 0.3]) * np.exp(-sun * 4) * 0.7
    sky = sky + np.array([1.0, 0.95, 0.8]) * _smooth(0.10, 0.07, sun)
    clouds = _smooth(0.52, 0.80, _noise(len(x), 3, 1, stretch=2.5))[..., None]
    white = np.array([1.0, 0.93, 0.88]) * (0.8 + 0.2 * _noise(len(x), 6, 2))[..., None]
    amount = clouds * 0.85 * _smooth(0.15, -0.35, y)[..., None]
    return sky * (1 - amount) + white * amount


def _mountains(picture: np.ndarray, y: np.ndarray) -> np.ndarray:
    size = len(picture)
    haze = np.array([0.80, 0.74, 0.76])
    for layer, (base, rise) in enumerate(((0.02, 0.50), (0.10, 0.38), (0.18, 0.26))):
        ridge = np.abs(_noise(size, 3 + layer, 20 + layer, 8)[size // 2] - 0.5) * 2
        line = base + 0.12 - rise * (1 - ridge) ** 1.4
        inside = _smooth(-0.004, 0.004, y - line[None])[..., None]
        rock = _noise(size, 16, 30 + layer)[..., None] * 0.5 + 0.55
        near = (layer + 1) / 3
        tone = np.array([0.30, 0.36, 0.34]) * rock * near + haze * (1 - near)
        snow = _smooth(0.10, 0.02, y - line[None])[..., None] * (
            _noise(size, 24, 40)[..., None] > 0.45
        )
        tone = tone + (np.array([0.95, 0.95, 1.0]) - tone) * snow * (0.7 if layer < 2 else 0.0)
        picture = picture * (1 - inside) + tone * inside
    return picture


def _lake(picture: np.ndarray, x: np.ndarray, y: np.ndarray, shore: float) -> np.ndarray:
    size = len(picture)
    depth = np.clip(y - shore, 0, None)
    ripple = (_noise(size, 40, 50, 4, stretch=6.0) - 0.5) * (0.02 + 0.10 * depth)
    mirrored = (2 * shore - y + ripple + 1) / 2 * size
    across = (x + ripple * 0.3 + 1) / 2 * size
    water = cv2.remap(
        picture.astype(np.float32),
        across.astype(np.float32),
        mirrored.astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT,
    )
    deep = np.array([0.05, 0.16, 0.22])
    share = _smooth(0.0, 0.9, depth)[..., None] * 0.6 + 0.15
    water = water * (1 - share) + deep * share + ripple[..., None] * 0.8
    inside = _smooth(-0.003, 0.003, y - shore)[..., None]
    return picture * (1 - inside) + water * inside


def lake_scene(size: int = 512) -> np.ndarray:
    """Renders a mountain lake under a low sun.

    Args:
        size: Width and height.

    Returns:
        RGB, uint8.
    """
    large = size * OVERSAMPLING
    x, y = _grid(large)
    picture = _lake(_mountains(_sky(x, y), y), x, y, 0.22)
    picture = cv2.resize(picture.astype(np.float32), (size, size), interpolation=cv2.INTER_AREA)
    return np.round(np.clip(picture, 0, 1) * 255).astype(np.uint8)


def composite(subject: np.ndarray, scene: np.ndarray) -> np.ndarray:
    """Puts an RGBA subject on an RGB scene of the same size."""
    alpha = subject[..., 3:].astype(np.float32) / 255
    mixed = subject[..., :3] * alpha + scene * (1 - alpha)
    return np.round(mixed).astype(np.uint8)


def main() -> None:
    """Writes the images to the folder named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    subject, scene = glass_ball(), lake_scene()
    cv2.imwrite(str(folder / "glass_ball.png"), cv2.cvtColor(subject, cv2.COLOR_RGBA2BGRA))
    for name, picture in (("lake_scene", scene), ("composite", composite(subject, scene))):
        cv2.imwrite(str(folder / f"{name}.png"), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))


if __name__ == "__main__":
    main()
