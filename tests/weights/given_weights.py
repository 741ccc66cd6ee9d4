"""The checkpoints, layer files and images that the tests of this folder measure.

Environment:
    LAYERDIFFUSE_WEIGHTS_DIR: Folder of the layer files; without it these tests are skipped.
    LAYERDIFFUSE_SD15_CHECKPOINT, LAYERDIFFUSE_SDXL_CHECKPOINT: A `.safetensors` file or a diffusers
        folder each; without one the tests of its family are skipped.
    LAYERDIFFUSE_RGBA_DIR: Folder of PNGs with transparency, for the round trips; without it scenes
        are drawn for them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lib_layerdiffuse import tiny
from lib_layerdiffuse.methods import Arch
from lib_layerdiffuse.pipeline import Session
from lib_layerdiffuse.released import WeightFile
from lib_layerdiffuse.standalone.models import ModelChoice, Models
from lib_layerdiffuse.weights.store import WeightStore

if TYPE_CHECKING:
    from lib_layerdiffuse.hosts.diffusers import DiffusersHost

WEIGHTS, IMAGES = "LAYERDIFFUSE_WEIGHTS_DIR", "LAYERDIFFUSE_RGBA_DIR"
CHECKPOINTS = {arch: f"LAYERDIFFUSE_{arch.name}_CHECKPOINT" for arch in Arch}


def named(variable: str) -> Path:
    """Returns what a variable of the environment names; skips the test where it is not set."""
    value = os.environ.get(variable)
    if not value:
        pytest.skip(f"{variable} is not set")
    path = Path(value).expanduser()
    if not path.exists():
        pytest.fail(f"{variable} names {path}, which does not exist", pytrace=False)
    return path


@dataclass(frozen=True)
class Family:
    """One family's checkpoint, with the layer files that go with it.

    Attributes:
        tiny: Whether it is the tiny one, which draws small and knows few things.
    """

    host: DiffusersHost
    session: Session
    tiny: bool


class Given:
    """Opens families; keeps one checkpoint."""

    def __init__(self) -> None:
        self.store = WeightStore(named(WEIGHTS), offline=True)
        self._models = Models(lambda: self.store)

    def open(self, arch: Arch, files: Sequence[WeightFile]) -> Family:
        """Returns a family; skips the test where the checkpoint or one of the files is missing."""
        checkpoint = named(CHECKPOINTS[arch])
        missing = [file.filename for file in files if self.store.find(file) is None]
        if missing:
            pytest.skip(f"{WEIGHTS} lacks {', '.join(missing)}")
        host, session = self._models.open(ModelChoice(checkpoint), arch)
        return Family(host, session, checkpoint.resolve() == tiny.checkpoint(arch).resolve())
