"""What a wheel of the package holds, as setuptools finds it; none is built."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("setuptools", minversion="77", reason="it builds the wheel")

from setuptools.dist import Distribution

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "lib_layerdiffuse"


@pytest.fixture(scope="module")
def wheel() -> SimpleNamespace:
    before = Path.cwd()
    os.chdir(ROOT)  # Its folder is where setuptools looks.
    try:
        found = Distribution({"script_name": "setup.py"})
        found.parse_config_files(["pyproject.toml"])
        command = found.get_command_obj("build_py")
        command.ensure_finalized()
        base = Path(command.build_lib)
        outputs = command.get_outputs(include_bytecode=False)
        files = {Path(path).relative_to(base).as_posix() for path in outputs}
    finally:
        os.chdir(before)
    return SimpleNamespace(files=files, summary=found.get_description())


def test_it_holds_every_file_of_the_package(wheel):
    paths = (path.relative_to(ROOT) for path in PACKAGE.rglob("*") if path.is_file())
    wanted = {
        path.as_posix()
        for path in paths
        if not any(part == "__pycache__" or part.startswith(".") for part in path.parts)
    }
    assert wheel.files == wanted


@pytest.mark.parametrize(
    "name",
    [
        "tiny/LICENSE",
        "tiny/MODEL_CARD.md",
        "tiny/models/layer_model/SHA256SUMS",
        "hosts/diffusers/configs/sdxl/unet/config.json",
        "hosts/diffusers/configs/tokenizer/LICENSE",
        "ui/panel.css",
    ],
)
def test_it_holds_what_is_no_code(wheel, name):
    assert f"lib_layerdiffuse/{name}" in wheel.files


def test_the_tiny_family_has_the_projects_licence():
    assert (PACKAGE / "tiny" / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()


def test_its_summary_says_what_it_is_beside_an_extension(wheel):
    assert all(word in wheel.summary for word in ("Forge", "command line", "studio"))
