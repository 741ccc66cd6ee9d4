"""The infotexts in the original extension's README, and what each must set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lib_layerdiffuse.methods import Layer

_FILE = Path(__file__).parents[1] / "data" / "readme_infotexts.txt"


@dataclass(frozen=True)
class OriginalInfotext:
    """One infotext; each has weight 1 and "Crop and Resize".

    Attributes:
        text: All of it.
        method: Id of the method.
        stop_at: Stop-at.
        prompts: Prompts of foreground, background and blended.
        images: Layers that the method uses and that the text says were given.
    """

    text: str
    method: str
    stop_at: float
    prompts: tuple[str, str, str]
    pictures: tuple[Layer, ...]


_NONE = ("", "", "")
_FG, _BG, _BLENDED = Layer
_WANTED: list[tuple[str, float, tuple[str, str, str], tuple[Layer, ...]]] = [
    *[("fg_attn_sdxl", 1.0, _NONE, ())] * 6,
    ("fg_attn_sd15", 1.0, _NONE, ()),
    ("joint_sd15", 1.0, _NONE, ()),
    ("joint_sd15", 1.0, _NONE, ()),
    ("joint_sd15", 1.0, ("apple", "floor in room", "apple on floor in room"), ()),
    ("joint_sd15", 1.0, ("dog running", "street", "dog running in street"), ()),
    ("joint_sd15", 1.0, ("a man sitting", "chair", "a man sitting on chair"), ()),
    ("bg_to_fg_sd15", 1.0, _NONE, (_BG,)),
    ("fg_attn_sd15", 1.0, _NONE, ()),
    ("fg_to_bg_sd15", 1.0, _NONE, (_FG,)),
    ("fg_attn_sd15", 1.0, _NONE, ()),
    ("fg_to_bg_sd15", 1.0, _NONE, (_FG,)),
    ("bg_to_blended_sdxl", 1.0, _NONE, (_BG,)),
    ("fg_attn_sdxl", 1.0, _NONE, ()),
    ("fg_to_blended_sdxl", 1.0, _NONE, (_FG,)),
    ("fg_blended_to_bg_sdxl", 0.5, _NONE, (_FG, _BLENDED)),
]


def original_infotexts() -> list[OriginalInfotext]:
    """Returns all of them in order."""
    texts = _FILE.read_text(encoding="utf-8").strip().split("\n\n")
    return [OriginalInfotext(text, *row) for text, row in zip(texts, _WANTED, strict=True)]
