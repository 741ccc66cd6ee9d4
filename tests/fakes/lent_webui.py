"""Lends the stand-ins for a WebUI to one test at a time: fixtures for folders that want them."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from types import ModuleType

import pytest
from module_state import ModuleState
from tiny_codec import tiny_encoder_weights
from tiny_weights import put, put_method

from lib_layerdiffuse.methods import ENCODERS, METHODS

FAKES = Path(__file__).parent / "forge"
STAND_INS = {path.stem for path in FAKES.iterdir()}
OURS = ("lib_layerdiffuse.hosts.forge", "lib_layerdiffuse.ui", "lib_layerdiffuse.webui")


def _is_lent(name: str) -> bool:
    return name.partition(".")[0] in STAND_INS or name.startswith(OURS)


def _lent() -> dict[str, ModuleType]:
    return {name: module for name, module in sys.modules.items() if _is_lent(name)}


def _exchange(modules: Mapping[str, ModuleType]) -> dict[str, ModuleType]:
    """Puts these in the place of all modules that depend on which WebUI there is; returns those."""
    before = _lent()
    for name in before:
        del sys.modules[name]
        package, _, attribute = name.rpartition(".")
        if package and not _is_lent(package):
            vars(sys.modules[package]).pop(attribute, None)
    sys.modules.update(modules)
    for name, module in modules.items():
        package, _, attribute = name.rpartition(".")
        if package and not _is_lent(package):
            setattr(sys.modules[package], attribute, module)
    return before


@pytest.fixture(scope="session")
def _started() -> tuple[dict[str, ModuleType], ModuleState]:
    """The stand-ins and what of ours is imported with them, and their state after that."""
    before = _exchange({})
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FAKES))
        for found in walk_packages([str(FAKES)]):
            import_module(found.name)
        for name in OURS:
            module = import_module(name)
            for found in walk_packages(getattr(module, "__path__", ()), f"{name}."):
                import_module(found.name)
    modules = _exchange(before)
    return modules, ModuleState(modules)


@pytest.fixture
def webui(
    _started: tuple[dict[str, ModuleType], ModuleState], monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Puts stand-ins for the WebUI's packages in place, for each test as if new."""
    modules, state = _started
    state.restore()
    monkeypatch.setattr(sys, "path", [str(FAKES), *sys.path])
    before = _exchange(modules)
    yield
    _exchange(before)


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
def own_models(models: Path, tmp_path: Path) -> Path:
    """A copy of the weights that a test may change."""
    return shutil.copytree(models, tmp_path / "models") / "layer_model"


@pytest.fixture
def forge(webui: None) -> ModuleType:
    """The adapter, over the stand-ins."""
    return import_module("lib_layerdiffuse.hosts.forge")
