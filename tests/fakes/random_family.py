"""A family of small random checkpoints and layer files in the place of the trained one."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny_diffusers

from lib_layerdiffuse.methods import METHODS, Arch
from lib_layerdiffuse.standalone import models
from lib_layerdiffuse.weights import WeightStore

SIDE = 64


def write(folder: Path) -> Path:
    """Writes the family into a folder and returns it."""
    tiny_diffusers.write_layers(folder, METHODS)
    for arch in Arch:
        tiny_diffusers.write_checkpoint(checkpoint(folder, arch), arch)
    return folder


def checkpoint(folder: Path, arch: Arch) -> Path:
    """Returns where a family's checkpoint is."""
    return folder / f"random_{arch.name.lower()}.safetensors"


def lend(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Makes jobs without a checkpoint of their own take the family that `write` wrote."""
    tiny_diffusers.lend(patch)
    patch.setattr(models, "_tiny_checkpoint", lambda arch: checkpoint(folder, arch))
    patch.setattr(models, "_tiny_store", lambda: WeightStore(folder, offline=True))
    patch.setattr("lib_layerdiffuse.standalone.defaults._tiny_side", lambda: SIDE)
