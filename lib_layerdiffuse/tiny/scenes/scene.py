"""Scenes: a subject over a background, drawn by a seed, and figures of an alpha."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .backgrounds import BACKGROUNDS
from .stage import Field
from .subjects import COLOURS, KINDS, POSITIONS, SIZES, Subject, held_out, paint

Rng = np.random.Generator


@dataclass(frozen=True)
class Scene:
    """A subject over a background.

    fg is straight RGBA H W 4 and bg RGB H W 3, float32 in 0..1. The colour of fg goes on where
    its alpha is 0. background is the caption of bg.
    """

    subject: Subject
    background: str
    fg: Field
    bg: Field

    @property
    def blended(self) -> Field:
        """fg over bg, H W 3."""
        alpha = self.fg[..., 3:]
        return alpha * self.fg[..., :3] + (1 - alpha) * self.bg

    @property
    def caption(self) -> str:
        """Such as "an orange fish, a sandy beach"."""
        return f"{self.subject.caption}, {self.background}"


def draw(rng: Rng, unseen: bool = False) -> tuple[Subject, str]:
    """A random subject and a background's caption: of the pairs of kind and colour that are
    trained on, or of those that are held out."""
    pairs = [(k, c) for k in KINDS for c in COLOURS if held_out(k, c) == unseen]
    kind, colour = pairs[int(rng.integers(len(pairs)))]
    size = tuple(SIZES)[int(rng.choice(3, p=(0.25, 0.45, 0.3)))]
    sideways = 0.2 if size == "large" else 0.6
    position = "" if rng.random() > sideways else tuple(POSITIONS)[int(rng.integers(1, 3))]
    background = tuple(BACKGROUNDS)[int(rng.integers(len(BACKGROUNDS)))]
    return Subject(kind, colour, size, position), background


def render(subject: Subject, background: str, rng: Rng, size: int = 128) -> Scene:
    """The scene of a subject and a background's caption, size × size, with the rng's variation."""
    fg = paint(subject, rng, size)
    bg = np.clip(BACKGROUNDS[background](rng, size), 0, 1).astype(np.float32)
    return Scene(subject, background, fg, bg)


def scene(seed: int, size: int = 128, unseen: bool = False) -> Scene:
    """The scene of a seed, the same in every process; unseen takes the held-out pairs."""
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, int(unseen)])))
    subject, background = draw(rng, unseen)
    return render(subject, background, rng, size)


def vocabulary() -> list[str]:
    """Every word of the captions, and the comma between their halves."""
    texts = [*COLOURS, *SIZES, *POSITIONS, *(kind.name for kind in KINDS), *BACKGROUNDS]
    return [*sorted({"a", "an"}.union(*(text.split() for text in texts))), ","]


def coverage(alpha: Field) -> float:
    """The share of the image where alpha, H W in 0..1, is above 0.05."""
    return float((alpha > 0.05).mean())


def soft_fraction(alpha: Field) -> float:
    """The share of the subject (alpha above 0.05) where 0.1 < alpha < 0.9; 0 of nothing."""
    return float(((alpha > 0.1) & (alpha < 0.9)).sum() / max((alpha > 0.05).sum(), 1))


def border_alpha(alpha: Field) -> float:
    """The mean alpha of the outermost two pixels on all sides."""
    inside = np.zeros(alpha.shape, bool)
    inside[2:-2, 2:-2] = True
    return float(alpha[~inside].mean())
