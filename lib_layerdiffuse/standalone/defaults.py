"""What a job takes where its user says nothing: the author's own values for each method."""

from __future__ import annotations

from dataclasses import dataclass

from ..methods import Arch, LayerMethod

TINY_SIDE = 128
"""Width and height that the tiny family was trained at, in pixels."""

_SIDES = {Arch.SD15: 512, Arch.SDXL: 1024}
_SAMPLERS = {Arch.SD15: "DPM++ 2M Karras", Arch.SDXL: "DPM++ 2M SDE Karras"}
# Others than in the first steps: the DPM++ samplers leave artefacts there.
_SECOND_STEPS = {"fg_blended_to_bg_sdxl": ("UniPC", 0.5), "bg_blended_to_fg_sdxl": ("Euler a", 1.0)}


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
    sampler, stop_at = _SECOND_STEPS.get(method.id, (_SAMPLERS[method.arch], 1.0))
    return Defaults(sampler, stop_at, TINY_SIDE if tiny else _SIDES[method.arch])
