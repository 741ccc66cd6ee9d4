"""What ComfyUI and its manager find in this folder."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_nobody_but_comfyui_gets_anything_from_the_folders_init():
    program = f"import runpy; print(sorted(runpy.run_path({str(ROOT / '__init__.py')!r})))"
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert "comfy_entrypoint" not in ran.stdout
    assert "sys" in ran.stdout


def test_a_fault_of_the_pack_is_not_swallowed():
    """ComfyUI shows what an import raises; a `try` around it would hide the nodes silently."""
    assert "except" not in (ROOT / "__init__.py").read_text()


def test_requirements_leave_pytorch_and_pages_alone():
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    names = {re.split(r"[<>=]", line)[0] for line in lines if line and not line.startswith("#")}
    assert names == {
        "safetensors",
        "numpy",
        "opencv-python-headless",
        "huggingface_hub",
        "pillow",
    }


def test_the_registry_finds_what_it_reads():
    """Its fields; `web` would serve the help where the page does not look for it."""
    tomllib = pytest.importorskip("tomllib", reason="Python has it from 3.11 on")
    found = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert set(found["tool"]["comfy"]) == {"PublisherId", "DisplayName"}
    assert {"name", "version", "description", "license"} <= set(found["project"])
    assert "comfyui" not in found["project"]["name"].lower()
