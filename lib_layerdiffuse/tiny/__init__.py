"""A tiny family of diffusion models that draws in layers, and the images it learnt from.

It is for demonstrations and tests: SD1.5's and SDXL's shapes with few channels, trained at 96×96
pixels, with all ten layer methods' files in the released formats. See its MODEL_CARD.md.
"""

from __future__ import annotations

from pathlib import Path

from ..methods import Arch
from ..weights.store import WeightStore

FOLDER = Path(__file__).parent / "models"


def checkpoint(arch: Arch) -> Path:
    """Returns the diffusers folder of a family's tiny model."""
    return FOLDER / f"layerdiffuse-tiny-{arch.name.lower()}"


def layer_store() -> WeightStore:
    """Returns the store of the tiny layer files, which never downloads."""
    return WeightStore(FOLDER / "layer_model", offline=True)
