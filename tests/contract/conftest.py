"""Lends the stand-ins for a WebUI to one test at a time."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
from tiny_codec import tiny_encoder_weights
from tiny_weights import put, put_method

import lib_layerdiffuse
import lib_layerdiffuse.hosts
import lib_layerdiffuse.ui
from lib_layerdiffuse.methods import ENCODERS, METHODS

FAKES = Path(__file__).parents[1] / "fakes" / "forge"
STAND_INS = {path.stem for path in FAKES.iterdir()}
OURS = ("lib_layerdiffuse.hosts.forge", "lib_layerdiffuse.ui.panel", "lib_layerdiffuse.webui")


def _is_lent(name: str) -> bool:
    return name.partition(".")[0] in STAND_INS or name.startswith(OURS)


def _taken() -> dict[str, ModuleType]:
    """Takes the modules out that depend on which WebUI there is, and returns them."""
    return {name: sys.modules.pop(name) for name in list(sys.modules) if _is_lent(name)}


@pytest.fixture
def webui(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Puts stand-ins for the WebUI's packages on the path, new for each test."""
    before = _taken()
    attributes = [
        (lib_layerdiffuse.ui, "panel"),
        (lib_layerdiffuse, "webui"),
        (lib_layerdiffuse.hosts, "forge"),
    ]
    monkeypatch.syspath_prepend(str(FAKES))
    yield
    _taken()
    for package, name in attributes:
        vars(package).pop(name, None)
    for name, module in before.items():
        sys.modules[name] = module
        for package, attribute in attributes:
            if name == f"{package.__name__}.{attribute}":
                setattr(package, attribute, module)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models with small weights for every method; leave it as it is."""
    folder = tmp_path_factory.mktemp("models")
    (folder / "layer_model").mkdir()
    for method in METHODS:
        put_method(folder / "layer_model", method)
    for seed, file in enumerate(ENCODERS.values()):
        put(folder / "layer_model", file, tiny_encoder_weights(seed))
    return folder


@pytest.fixture
def forge(webui: None) -> ModuleType:
    """The adapter, over the stand-ins."""
    return import_module("lib_layerdiffuse.hosts.forge")
