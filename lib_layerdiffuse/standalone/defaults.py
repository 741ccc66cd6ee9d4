"""What a job takes where its user says nothing: the author's own values for each method."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import ImageSizeError
from ..methods import Arch, LayerMethod
from ..settings.chains import SECOND_STEPS, AuthorsChoice

TINY_CFG = 3.0
"""The tiny family's guidance: more makes its edges hard."""
_SIDES = {Arch.SD15: 512, Arch.SDXL: 1024}
_SAMPLERS = {Arch.SD15: "DPM++ 2M Karras", Arch.SDXL: "DPM++ 2M SDE Karras"}


@dataclass(frozen=True)
class Defaults:
    """A job's values for one method.

    Source: the pictures in the original extension's README, by their infotexts.
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
            f"Expected a size such as 512x640, in multiples of 8 from 64 to 8192, got {text!r}.",
            "Choose another width or height.",
        )
    return sides[0], sides[-1]
