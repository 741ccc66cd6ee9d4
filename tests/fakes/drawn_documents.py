"""Documents of small drawn layers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import strategies as st

from lib_layerdiffuse.documents.document import Document, DocumentLayer

NAMES = [
    "Background",
    "Vordergrund größer",
    "前景",
    "Ёлка",
    "⛵ boat 👩‍🚀",
    'a "b" <c> & d/e\\f',
    " ",
]


def pixels(height: int, width: int, channels: int = 4, seed: int = 0) -> np.ndarray:
    """Returns an image with flat parts, noise, and alpha 0 over all kinds of colours."""
    rng = np.random.default_rng(seed)
    picture = rng.integers(0, 256, (height, width, channels), np.uint8)
    picture[: height // 2] = rng.integers(0, 256, channels)
    if channels == 4:
        picture[..., 3] *= rng.integers(0, 2, (height, width), np.uint8)
    return picture


def over(layers: list[DocumentLayer], width: int, height: int) -> np.ndarray:
    """Returns what should be seen, `h w 4` in [0, 1], premultiplied: pixel by pixel, by the book.

    Source: Porter and Duff, "Compositing Digital Images", 1984.
    """
    seen = np.zeros((height, width, 4))
    for layer in (one for one in layers if one.visible):
        for y, x in np.ndindex(height, width):
            row, column = y - layer.top, x - layer.left
            if 0 <= row < layer.height and 0 <= column < layer.width:
                red, green, blue, *alpha = (int(v) / 255 for v in layer.image[row, column])
                part = (alpha[0] if alpha else 1) * layer.opacity
                source = np.array([red, green, blue, 1]) * part
                seen[y, x] = source + seen[y, x] * (1 - part)
    return seen


@st.composite
def documents(draw, inside: bool = False) -> Document:
    """Any document; `inside` for layers that lie on the canvas as a whole."""
    width, height = draw(st.integers(1, 13)), draw(st.integers(1, 13))
    layers = []
    for _ in range(draw(st.integers(1, 4))):
        wide = draw(st.integers(1, width if inside else 13))
        tall = draw(st.integers(1, height if inside else 13))
        left = draw(st.integers(0, width - wide) if inside else st.integers(-9, 13))
        top = draw(st.integers(0, height - tall) if inside else st.integers(-9, 13))
        picture = pixels(tall, wide, draw(st.sampled_from([3, 4])), draw(st.integers(0, 99)))
        if picture.shape[2] == 4 and draw(st.integers(0, 4)) == 0:
            picture[..., 3] = 0
        name, seen = draw(st.sampled_from(NAMES)), draw(st.booleans())
        opacity = draw(st.sampled_from([0.0, 0.2, 1.0]))
        layers.append(DocumentLayer(name, picture, left, top, seen, opacity))
    return Document(width, height, tuple(layers))


def sixteen() -> Document:
    layers = [
        DocumentLayer(f"{i} {NAMES[i % 7]}", pixels(5, 7, 3 + i % 2, i), i % 3, i % 2)
        for i in range(16)
    ]
    return Document(9, 7, tuple(layers))


def assert_same_layers(found: list[DocumentLayer], document: Document) -> None:
    assert len(found) == len(document.layers)
    for got, wanted in zip(found, document.layers, strict=True):
        assert (got.name, got.left, got.top) == (wanted.name, wanted.left, wanted.top)
        assert got.visible == wanted.visible
        assert got.opacity == pytest.approx(wanted.opacity, abs=0.5 / 255)
        np.testing.assert_array_equal(got.image, wanted.image)
