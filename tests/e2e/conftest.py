"""Fixtures of the end-to-end tests: a real WebUI on random weights.

Environment:
    LAYERDIFFUSE_FORGE_DIR: Checkout of the WebUI; without it these tests are skipped.
    LAYERDIFFUSE_FORGE_PYTHON: Interpreter with its requirements, by default the checkout's
        ``venv/bin/python``.
    LAYERDIFFUSE_E2E_CACHE: Folder for 22 GB of random weights, by default
        ``~/.cache/layerdiffuse-e2e``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import random_weights  # noqa: E402
from client import Client, Result  # noqa: E402
from forge_server import ForgeServer  # noqa: E402

ROOT = HERE.parent.parent
EXTENSION = "sd-forge-layerdiffuse-next"


def _forge_dir() -> Path | None:
    folder = os.environ.get("LAYERDIFFUSE_FORGE_DIR")
    return Path(folder).expanduser() if folder else None


def _forge_python(forge_dir: Path) -> Path:
    default = forge_dir / "venv" / "bin" / "python"
    return Path(os.environ.get("LAYERDIFFUSE_FORGE_PYTHON", default)).expanduser()


def _missing() -> str | None:
    forge_dir = _forge_dir()
    if forge_dir is None:
        return "end-to-end test in a real WebUI: LAYERDIFFUSE_FORGE_DIR is not set"
    if not (forge_dir / "launch.py").exists():
        return f"end-to-end test in a real WebUI: no launch.py in {forge_dir}"
    if not _forge_python(forge_dir).exists():
        return f"end-to-end test in a real WebUI: no interpreter {_forge_python(forge_dir)}"
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks this folder's tests, and skips them where there is no WebUI."""
    reason = _missing()
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.e2e)
            if reason is not None:
                item.add_marker(pytest.mark.skip(reason=reason))


@dataclass(frozen=True)
class Models:
    """Files of the random model cache."""

    checkpoints: list[Path]
    layer_weights: list[Path]
    sd15_lora: Path


@pytest.fixture(scope="session")
def models() -> Models:
    """Writes the random weights, where they are not there yet."""
    default = Path.home() / ".cache" / "layerdiffuse-e2e"
    cache = Path(os.environ.get("LAYERDIFFUSE_E2E_CACHE", default)).expanduser()
    random_weights.write_all(cache)
    lora = cache / "loras" / "random_lora.safetensors"
    lora.parent.mkdir(exist_ok=True)
    random_weights.write_sd15_lora(lora)
    return Models(
        [cache / "checkpoints" / name for name in random_weights.CHECKPOINTS],
        [cache / "layer_model" / name for name in (*random_weights.LAYER_WEIGHTS, "SHA256SUMS")],
        lora,
    )


@pytest.fixture(scope="session")
def make_forge(models: Models) -> Callable[..., ForgeServer]:
    """Returns a function that prepares, but does not start, a server with this extension.

    Its arguments are the data folder and those of `ForgeServer`.
    """

    def make(data_dir: Path, **options: object) -> ForgeServer:
        forge_dir = _forge_dir()
        assert forge_dir is not None
        settings: dict = {
            "checkpoints": models.checkpoints,
            "layer_weights": models.layer_weights,
            "loras": [models.sd15_lora],
            "extensions": {EXTENSION: ROOT},
        }
        return ForgeServer(forge_dir, _forge_python(forge_dir), data_dir, **{**settings, **options})

    return make


@pytest.fixture(scope="session")
def forge(
    make_forge: Callable[..., ForgeServer], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ForgeServer]:
    """A running server with this extension, shared by all tests of the session."""
    with make_forge(tmp_path_factory.mktemp("forge")) as server:
        print(f"log of the server: {server.log_path}")
        yield server


@pytest.fixture(scope="session")
def plain(forge: ForgeServer, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Result]:
    """Returns plain results of the shared server, each made once, as first thing where it can."""
    made: dict[str, Result] = {}

    def run(checkpoint: str, **options: int) -> Result:
        key = f"{checkpoint} {sorted(options.items())}"
        if key not in made:
            client = Client(forge.url)
            client.use_checkpoint(checkpoint)
            made[key] = client.txt2img(record=tmp_path_factory.mktemp("plain") / "run", **options)
        return made[key]

    return run


@pytest.fixture
def client(forge: ForgeServer) -> Client:
    """A client of the shared server."""
    return Client(forge.url)
