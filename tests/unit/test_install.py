"""install.py and preload.py, as the WebUI's launcher uses them."""

from __future__ import annotations

import argparse
import importlib.util
import runpy
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

ROOT = Path(__file__).parents[2]

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def load(name: str) -> ModuleType:
    """Loads a file of the extension's root the way the launcher does: by its path."""
    spec = importlib.util.spec_from_file_location(f"extension_{name}", ROOT / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class FakeLaunch(SimpleNamespace):
    """The WebUI's `launch`, which has some packages and notes what it is asked to install."""

    def __init__(self, installed: set[str], broken: bool = False) -> None:
        super().__init__(installed=installed, broken=broken, asked=[])

    def is_installed(self, module: str) -> bool:
        return module in self.installed

    def run_pip(self, command: str, description: str) -> None:
        self.asked.append(command)
        if self.broken:
            raise RuntimeError("no network")


@pytest.fixture
def launch(monkeypatch):
    def use(*installed: str, broken: bool = False) -> FakeLaunch:
        fake = FakeLaunch(set(installed), broken)
        monkeypatch.setitem(sys.modules, "launch", fake)
        return fake

    return use


def test_installs_nothing_where_everything_is_there(launch):
    install = load("install")
    fake = launch(*install.PACKAGES)
    assert install.install() == []
    assert fake.asked == []


def test_installs_only_what_is_missing(launch):
    fake = launch("numpy", "safetensors", "PIL")
    assert load("install").install() == []
    assert fake.asked == ["install opencv-python>=4.8", "install huggingface_hub>=0.26"]


def test_a_failure_is_named_and_the_rest_goes_on(launch, capsys):
    fake = launch("numpy", "cv2", "PIL", broken=True)
    assert load("install").install() == ["safetensors>=0.4.2", "huggingface_hub>=0.26"]
    assert len(fake.asked) == 2
    assert "could not install safetensors>=0.4.2: no network" in capsys.readouterr().err


def test_as_a_program_it_says_what_to_do(launch, capsys):
    launch("numpy", "cv2", "huggingface_hub", "PIL", broken=True)
    runpy.run_path(str(ROOT / "install.py"), run_name="__main__")
    assert 'Run: pip install "safetensors>=0.4.2"\n' in capsys.readouterr().out


@pytest.mark.parametrize("launcher", [None, SimpleNamespace()], ids=["absent", "another launch"])
def test_without_the_launcher_it_uses_pip(monkeypatch, launcher):
    install = load("install")
    asked = []
    monkeypatch.setitem(sys.modules, "launch", launcher)
    monkeypatch.setattr(install, "PACKAGES", {"json": "json", "no_such_module": "no-such>=1"})
    monkeypatch.setattr(subprocess, "run", lambda command, check: asked.append((command, check)))
    assert install.install() == []
    assert asked == [([sys.executable, "-m", "pip", "install", "no-such>=1"], True)]


def test_never_installs_torch_or_gradio_and_everything_else():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    theirs = {name for name in project["dependencies"] if name.startswith(("torch", "gradio"))}
    assert len(theirs) == 2
    assert sorted(load("install").PACKAGES.values()) == sorted(
        set(project["dependencies"]) - theirs
    )


class TestPreload:
    @pytest.fixture
    def parser(self):
        parser = argparse.ArgumentParser()
        load("preload").preload(parser)
        return parser

    def test_by_default_nothing_changes(self, parser):
        options = parser.parse_args([])
        assert options.layerdiffuse_models_dir is None
        assert options.layerdiffuse_offline is False

    def test_flags(self, parser):
        options = parser.parse_args(
            ["--layerdiffuse-models-dir", "/models", "--layerdiffuse-offline"]
        )
        assert options.layerdiffuse_models_dir == "/models"
        assert options.layerdiffuse_offline is True
