"""The parts of ComfyUI that the adapter uses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ...methods import Arch
from ..patchers.dialect import Dialect


@dataclass(frozen=True)
class Comfy(Dialect):
    """As in `Dialect`, and what only ComfyUI has.

    Attributes:
        families: The families that methods fit, by the class of a model's configuration; a class
            that derives from one is another family.
        around_sampler: The kind of wrapper around a sampler, from before the models are loaded.
        around_unet: That around each UNet call, which is told sigma.
        bar: Its bar on a node, by how much there is to do.
    """

    families: dict[type, Arch]
    around_sampler: str
    around_unet: str
    bar: Callable[[int], Any]
