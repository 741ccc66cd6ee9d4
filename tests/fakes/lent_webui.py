"""Lends the stand-ins for a WebUI to one test at a time: fixtures for folders that want them."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from types import ModuleType

import pytest
from module_state import ModuleState
from tiny_codec import tiny_encoder_weights
from tiny_weights import put, put_method

from lib_layerdiffuse.methods import ENCODERS, METHODS

FAKES = Path(__file__).parent
_PATCHERS = {
    "forge": ("forge_backend",),
    "neo": ("neo", "forge_backend"),
    "reforge": ("reforge", "ldm_parts"),
    "classic": ("classic", "ldm_parts"),
}
WEBUIS = {
    webui: tuple(FAKES / name for name in (*folders, "checkpoint", "forge"))
    for webui, folders in _PATCHERS.items()
} | {"a1111": (FAKES / "a1111",), "comfy": (FAKES / "comfyui", FAKES / "checkpoint")}
"""The folders of each WebUI's stand-ins; what one lacks is as in the next."""
STAND_INS = {path.stem for folders in WEBUIS.values() for one in folders for path in one.iterdir()}
OURS = (
    "lib_layerdiffuse.hosts.detect",
    "lib_layerdiffuse.hosts.patchers",
    "lib_layerdiffuse.ui",
    "lib_layerdiffuse.webui",
)
_DETECT = "lib_layerdiffuse.hosts.detect"
_PATCHERS_AND_COMFY = (
    "lib_layerdiffuse.hosts.patchers",
    "lib_layerdiffuse.hosts.comfy",
    "lib_layerdiffuse.hosts.comfy.comfy_dialect",
    "lib_layerdiffuse.comfy",
)
OURS_IN = {"a1111": (_DETECT, "lib_layerdiffuse.hosts.a1111"), "comfy": _PATCHERS_AND_COMFY}
"""What of ours is imported with stand-ins for less than a whole WebUI."""
_ALL_OURS = (*OURS, *(name for names in OURS_IN.values() for name in names))


@cache
def _is_lent(name: str) -> bool:
    return name.partition(".")[0] in STAND_INS or name.startswith(_ALL_OURS)


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


@cache
def _started(name: str) -> tuple[dict[str, ModuleType], ModuleState]:
    """Returns a WebUI's stand-ins and what of ours is imported with them, and their state then."""
    folders = [str(folder) for folder in WEBUIS[name]]
    before = _exchange({})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [*folders, *sys.path])
        for found in walk_packages(folders):
            import_module(found.name)
        for ours in OURS_IN.get(name, OURS):
            module = import_module(ours)
            for found in walk_packages(getattr(module, "__path__", ()), f"{ours}."):
                if not found.name.endswith("_dialect"):  # There is the host's own alone.
                    import_module(found.name)
        if _DETECT in OURS_IN.get(name, OURS):
            import_module(_DETECT).webui_host()
    modules = _exchange(before)
    return modules, ModuleState(modules)


@pytest.fixture
def webui_name() -> str:
    """The WebUI whose stand-ins are lent; a module of tests may have another, or several."""
    return "forge"


@pytest.fixture
def webui(webui_name: str) -> Iterator[None]:
    """Puts stand-ins for the WebUI's packages in place, for each test as if new."""
    with lent(webui_name):
        yield


@contextmanager
def lent(name: str) -> Iterator[None]:
    """Puts stand-ins for a WebUI's packages in place, as if new, until the context ends."""
    modules, state = _started(name)
    state.restore()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [*map(str, WEBUIS[name]), *sys.path])
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
