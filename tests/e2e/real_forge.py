"""Fixtures of the tests that drive a real WebUI on random weights.

Environment:
    LAYERDIFFUSE_FORGE_DIR: Checkout of the WebUI; without it these tests are skipped.
    LAYERDIFFUSE_FORGE_PYTHON: Interpreter with its requirements, by default the checkout's
        ``venv/bin/python``.

`model_cache` has those of the random weights.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from forge_server import ForgeServer
from model_cache import cache_folder, families, of_families, write_all
from random_controlnet import write_controlnet
from random_loras import write_lora
from random_weights import CHECKPOINTS, LAYER_WEIGHTS

ROOT = Path(__file__).parents[2]
EXTENSION = "sd-forge-layerdiffuse-next"


def forge_dir() -> Path | None:
    """Returns the folder of the WebUI, or None if it is not named."""
    folder = os.environ.get("LAYERDIFFUSE_FORGE_DIR")
    return Path(folder).expanduser() if folder else None


def _forge_python(folder: Path) -> Path:
    default = folder / "venv" / "bin" / "python"
    return Path(os.environ.get("LAYERDIFFUSE_FORGE_PYTHON", default)).expanduser()


def missing_forge() -> str | None:
    """Returns why no WebUI can be started, or None."""
    folder = forge_dir()
    if folder is None:
        return "test in a real WebUI: LAYERDIFFUSE_FORGE_DIR is not set"
    if not (folder / "launch.py").exists():
        return f"test in a real WebUI: no launch.py in {folder}"
    if not _forge_python(folder).exists():
        return f"test in a real WebUI: no interpreter {_forge_python(folder)}"
    return None


def mark(items: list[pytest.Item], folder: Path, marker: str, reason: str | None) -> None:
    """Marks the tests of a folder, and skips them where there is a reason."""
    for item in items:
        if folder in item.path.parents:
            item.add_marker(getattr(pytest.mark, marker))
            if reason is not None:
                item.add_marker(pytest.mark.skip(reason=reason))


@dataclass(frozen=True)
class Models:
    """Files of the random model cache."""

    checkpoints: list[Path]
    layer_weights: list[Path]
    loras: list[Path]
    controlnets: list[Path]


@pytest.fixture(scope="session")
def models() -> Models:
    """Writes the random weights, where they are not there yet."""
    cache = cache_folder()
    write_all(cache)
    return Models(
        [cache / "checkpoints" / name for name in of_families(CHECKPOINTS)],
        [cache / "layer_model" / name for name in (*of_families(LAYER_WEIGHTS), "SHA256SUMS")],
        [write_lora(cache / "loras", arch) for arch in families()],
        [write_controlnet(cache / "controlnet", arch) for arch in families()],
    )


@pytest.fixture(scope="session")
def make_forge(models: Models) -> Callable[..., ForgeServer]:
    """Returns a function that prepares, but does not start, a server with this extension.

    Its arguments are the data folder and those of `ForgeServer`.
    """

    def make(data_dir: Path, **options: object) -> ForgeServer:
        folder = forge_dir()
        assert folder is not None
        settings: dict = {
            "checkpoints": models.checkpoints,
            "layer_weights": models.layer_weights,
            "loras": models.loras,
            "controlnets": models.controlnets,
            "extensions": {EXTENSION: ROOT},
        }
        return ForgeServer(folder, _forge_python(folder), data_dir, **{**settings, **options})

    return make
