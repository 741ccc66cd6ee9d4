"""The small random checkpoints and layer files in the place of the trained tiny family."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny_diffusers
from kept_session import KeptSession

from lib_layerdiffuse import pipeline
from lib_layerdiffuse.hosts.diffusers import DiffusersHost
from lib_layerdiffuse.methods import Arch
from lib_layerdiffuse.standalone import models, run
from lib_layerdiffuse.weights.store import WeightStore

SIDE = 64
_load = models._load


def lend(patch: pytest.MonkeyPatch) -> Path:
    """Makes jobs without a checkpoint of their own take it, and returns the layer files' folder."""
    folder = tiny_diffusers.layer_folder()
    tiny_diffusers.lend(patch)
    patch.setattr(models, "_tiny_checkpoint", tiny_diffusers.checkpoint)
    patch.setattr(models, "_tiny_store", lambda: WeightStore(folder, offline=True))
    _lend_loaded(patch)
    patch.setattr("lib_layerdiffuse.standalone.defaults._tiny_side", lambda: SIDE)
    see_one_view(patch)
    return folder


def _lend_loaded(patch: pytest.MonkeyPatch) -> None:
    """Spares jobs to load what all of them leave as it is."""

    def loaded(choice: models.ModelChoice, arch: Arch) -> DiffusersHost:
        as_it_is = replace(choice, device=None) == models.ModelChoice()
        return tiny_diffusers.host(arch) if as_it_is else _load(choice, arch)

    patch.setattr(models, "_load", loaded)
    patch.setattr(pipeline, "Session", KeptSession)


def load_anew(patch: pytest.MonkeyPatch) -> None:
    """Lets jobs load their checkpoints as they do for people."""
    patch.setattr(models, "_load", _load)


def see_one_view(patch: pytest.MonkeyPatch) -> None:
    """Lets the decoder of jobs look once and not eight times."""

    def look_once(*args: Any, **more: Any) -> Any:
        return pipeline.decode(*args, **{**more, "views": 1})

    patch.setattr(run, "decode", look_once)


def see_eight_views(patch: pytest.MonkeyPatch) -> None:
    """Lets the decoder look as often as it does for people."""
    patch.setattr(run, "decode", pipeline.decode)
