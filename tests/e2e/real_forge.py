"""Fixtures of the tests that drive a real WebUI on random weights.

`webuis` and `model_cache` say what they need in the environment; without a WebUI they are skipped,
and with several they run in each.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from forge_server import ForgeServer
from model_cache import cache_folder, families, of_families, write_all
from random_controlnet import write_controlnet
from random_loras import write_lora
from random_weights import CHECKPOINTS, LAYER_WEIGHTS
from webuis import Webui, named

ROOT = Path(__file__).parents[2]
EXTENSION = "sd-forge-layerdiffuse-next"


def missing_forge() -> str | None:
    """Returns why no WebUI can be started, or None."""
    return next(filter(None, (webui.missing() for webui in named())), None)


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


@pytest.fixture(scope="session", params=named(), ids=lambda webui: webui.id)
def webui(request: pytest.FixtureRequest) -> Webui:
    """The WebUI that is tested."""
    return request.param


@pytest.fixture(scope="session")
def make_forge(models: Models, webui: Webui) -> Callable[..., ForgeServer]:
    """Returns a function that prepares, but does not start, a server with this extension.

    Its arguments are the data folder and those of `ForgeServer`.
    """

    def make(data_dir: Path, **options: object) -> ForgeServer:
        folder = webui.folder()
        assert folder is not None
        settings: dict = {
            "checkpoints": models.checkpoints,
            "layer_weights": models.layer_weights,
            "loras": models.loras,
            "controlnets": models.controlnets,
            "extensions": {EXTENSION: ROOT},
            "webui": webui,
        }
        return ForgeServer(folder, webui.python(), data_dir, **{**settings, **options})

    return make
