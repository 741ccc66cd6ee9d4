"""Whether a decoded foreground is transparent at all."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np

from .images import ImageU8

SOLID = 0.9
"""Alpha from which a pixel hides what is behind it. Of the solid subject in an example image of
the released weights 95 % are above 0.94, while glass and glow are mostly below 0.9."""

VISIBLE = 0.05
"""Alpha from which a pixel is seen on a page."""

_HOLES = 0.02
"""Share of see-through pixels below which an image is opaque, wherever they are. The example
images of the released weights have 0.39 and more; the corners around a disc that touches all four
sides have 0.2. What is left is too little to be the surroundings of anything, only specks."""

_HOLES_IN_FRAME = 0.1
"""The same for an image whose border is solid: something was drawn up to every side, which is what
a background does. A window or an image frame does it too, but shows more than this through it."""

_TRACE = 0.001
"""Share of visible pixels below which an image is empty: 32 x 32 of 1024 x 1024. The example
images of the released weights have 0.15 and more."""

_BORDER = 64  # The border is this part of the shorter side wide: narrow, but more than one pixel.


class Verdict(str, Enum):
    """What an image's alpha amounts to."""

    TRANSPARENT = "transparent"
    OPAQUE = "opaque"
    EMPTY = "empty"


@dataclass(frozen=True)
class Coverage:
    """What was measured of an image's alpha.

    Attributes:
        mean: Mean alpha.
        visible: Share of pixels that are seen at all.
        see_through: Share of pixels that are not solid.
        border: Mean alpha along the four sides.
        soft: Share of pixels that are seen and not solid: glass, glow and edges.
        haze: Share of pixels that are not seen, but not clear either.
    """

    mean: float
    visible: float
    see_through: float
    border: float
    soft: float
    haze: float

    @property
    def verdict(self) -> Verdict:
        """What the numbers amount to."""
        if self.visible < _TRACE:
            return Verdict.EMPTY
        limit = _HOLES_IN_FRAME if self.border >= SOLID else _HOLES
        return Verdict.OPAQUE if self.see_through < limit else Verdict.TRANSPARENT

    def as_dict(self) -> dict[str, float | str]:
        """Returns the numbers, rounded to a ten-thousandth, and the verdict; for JSON."""
        return {name: round(value, 4) for name, value in vars(self).items()} | {
            "verdict": self.verdict.value
        }


def measure(rgba_u8: ImageU8) -> Coverage:
    """Returns the measures of an image `h w 4` in 0..255."""
    alpha = np.asarray(rgba_u8)[..., 3].astype(np.float32) / np.float32(255)
    side = max(1, min(alpha.shape) // _BORDER)
    inside = np.zeros(alpha.shape, bool)
    inside[side:-side, side:-side] = True
    visible, solid = alpha >= VISIBLE, alpha >= SOLID
    return Coverage(
        mean=float(alpha.mean()),
        visible=float(visible.mean()),
        see_through=float((~solid).mean()),
        border=float(alpha[~inside].mean()),
        soft=float((visible & ~solid).mean()),
        haze=float(((alpha > 0) & ~visible).mean()),
    )
