"""What a job takes where its user says nothing: the author's own values for each method."""

from __future__ import annotations

import random
from dataclasses import dataclass

from ..errors import ImageSizeError, SettingsError, shortened
from ..methods import Arch, LayerMethod
from ..settings.chains import SECOND_STEPS, AuthorsChoice

TINY_CFG = 3.0
"""The tiny family's guidance: more makes its edges hard."""
LARGEST_SEED = 2**32 - 1
"""Of any layer: the largest that the WebUIs draw, so every front end takes an image's own seed.

The WebUIs' API takes larger ones; nothing but another noise comes of them.
"""
_SIDES = {Arch.SD15: 512, Arch.SDXL: 1024}
_SAMPLERS = {Arch.SD15: "DPM++ 2M Karras", Arch.SDXL: "DPM++ 2M SDE Karras"}


@dataclass(frozen=True)
class Defaults:
    """A job's values for one method.

    Source: the images in the original extension's README, by their infotexts.
    """

    sampler: str
    stop_at: float
    side: int
    steps: int = 20
    cfg: float = 7.0


def defaults(method: LayerMethod, *, tiny: bool) -> Defaults:
    """Returns the author's values for a method.

    Args:
        method: What makes the layers.
        tiny: Whether the tiny family draws, at the size that it was trained at.
    """
    first_step = AuthorsChoice(_SAMPLERS[method.arch], 1.0)
    author = SECOND_STEPS.get(method.id, first_step)
    if tiny:
        return Defaults(author.sampler, author.stop_at, _tiny_side(), cfg=TINY_CFG)
    return Defaults(author.sampler, author.stop_at, _SIDES[method.arch])


def _tiny_side() -> int:
    from ..tiny.shapes import SIDE

    return SIDE


def read_size(text: str) -> tuple[int, int]:
    """Returns the width and height that a text such as "512x640" or "512" names.

    Raises:
        SettingsError: It names none that a latent can have.
    """
    parts = text.lower().replace("×", "x").split("x")
    sides = [int(part) for part in parts if part.strip().isdecimal()]
    if not 1 <= len(sides) == len(parts) <= 2 or any(s % 8 or not 64 <= s <= 8192 for s in sides):
        raise ImageSizeError(
            f"{text!r} is no size that can be made.",
            "Write one such as 512x640, in multiples of 8 between 64 and 8192.",
        )
    return sides[0], sides[-1]


def read_seed(text: str) -> int:
    """Returns the seed that a text names; below 0 for a new one.

    Raises:
        SettingsError: It names none.
    """
    try:
        seed = int(text)
    except ValueError:
        seed = LARGEST_SEED + 1
    if seed > LARGEST_SEED:
        raise _no_seed(text)
    return seed


def draw_seed(layers: int) -> int:
    """Returns a new seed for the first of so many layers; the others have those after it."""
    return random.randint(0, max(0, LARGEST_SEED + 1 - layers))


def check_seeds(first: int, layers: int) -> None:
    """Checks the seeds of so many layers, which follow each other.

    Raises:
        SettingsError: One of them is none.
    """
    if first < 0 or first + layers - 1 > LARGEST_SEED:
        raise _no_seed(first if first < 0 or first > LARGEST_SEED else first + layers - 1)


def _no_seed(found: object) -> SettingsError:
    return SettingsError(
        f"Each layer's seed must be between 0 and {LARGEST_SEED}, but one is {shortened(found)}.",
        "Choose a smaller seed, or -1 for a new one each time.",
        field="seed",
    )
