"""Checkpoints with their weight files, opened for a method and kept for the next job."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import SettingsError
from ..methods import Arch

if TYPE_CHECKING:
    from ..hosts.diffusers import DiffusersHost
    from ..pipeline import Session
    from ..weights.store import WeightStore


@dataclass(frozen=True)
class ModelChoice:
    """Which checkpoint to load, and how.

    Attributes:
        checkpoint: A .safetensors file or a diffusers folder; None for the tiny family.
        dtype: "float32", "float16" or "bfloat16"; None for the device's best.
        device: As PyTorch names it; None for the best there is.
        offload: What leaves the device while it is not needed: "none", "model" or "sequential".
        loras: The user's own LoRA files with their weights.
        prediction: What the UNet predicts, "eps" or "v"; None for what the checkpoint says.
    """

    checkpoint: Path | None = None
    dtype: str | None = None
    device: str | None = None
    offload: str = "none"
    loras: tuple[tuple[Path, float], ...] = ()
    prediction: str | None = None

    @property
    def tiny(self) -> bool:
        """Whether the tiny family draws."""
        return self.checkpoint is None


def read_lora(text: str) -> tuple[str, float]:
    """Returns the file's name and the weight that a text such as "fur.safetensors:0.8" names.

    Raises:
        SettingsError: The weight is no number that can be used.
    """
    name, colon, weight = text.rpartition(":")
    try:
        number = float(weight)
    except ValueError:  # The colon is part of the name.
        return text, 1.0
    if not (colon and name):
        return text, 1.0
    if not math.isfinite(number):
        raise SettingsError(
            f"The weight must be a number such as 0.8, not {weight!r}.",
            "Write FILE:WEIGHT.",
            field="loras",
        )
    return name, number


class Models:
    """Loads what jobs need; keeps one checkpoint, and the weights of the last method.

    Args:
        store: Makes the store of the ordinary weight files, when they are first needed.
    """

    def __init__(self, store: Callable[[], WeightStore]) -> None:
        self._store = store
        self._host: tuple[object, DiffusersHost] | None = None
        self._sessions: dict[bool, Session] = {}

    def open(self, choice: ModelChoice, arch: Arch) -> tuple[DiffusersHost, Session]:
        """Returns the checkpoint, and the session with the layer files that belong to it.

        Args:
            choice: Which checkpoint.
            arch: The method's family, of which the tiny one is taken.

        Raises:
            LayerDiffuseError: Something is missing, broken or of no known family.
        """
        key = (choice, arch if choice.tiny else None)
        if self._host is None or self._host[0] != key:
            self._host = None  # Two checkpoints need not fit into the memory.
            self._host = key, _load(choice, arch)
        return self._host[1], self.session(choice.tiny)

    @staticmethod
    def tiny_checkpoint(arch: Arch) -> Path:
        """Returns the folder of the tiny family's model."""
        return _tiny_checkpoint(arch)

    def session(self, tiny: bool) -> Session:
        """Returns the session with the tiny family's layer files, or with the ordinary ones."""
        from ..pipeline import Session

        if tiny not in self._sessions:
            self._sessions[tiny] = Session(_tiny_store() if tiny else self._store())
        return self._sessions[tiny]


def _load(choice: ModelChoice, arch: Arch) -> DiffusersHost:
    import torch

    from ..hosts.diffusers import DiffusersHost, Offload

    return DiffusersHost.load(
        choice.checkpoint or _tiny_checkpoint(arch),
        dtype=getattr(torch, choice.dtype) if choice.dtype else None,
        device=choice.device,
        offload=Offload(choice.offload),
        loras=choice.loras,
        prediction=choice.prediction,
    )


def _tiny_checkpoint(arch: Arch) -> Path:
    from .. import tiny

    return tiny.checkpoint(arch)


def _tiny_store() -> WeightStore:
    from .. import tiny

    return tiny.layer_store()
