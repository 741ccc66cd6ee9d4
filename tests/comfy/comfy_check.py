# ruff: noqa: E402, I001 - What is imported reads what is set before.
"""Checks of the adapter in ComfyUI's own code, on small checkpoints: a minute, without its server.

    venv/bin/python …/tests/comfy/comfy_check.py COMFYUI RESULTS

Runs in ComfyUI's interpreter and ends with an error if a check fails.

Args:
    COMFYUI: Folder of its checkout.
    RESULTS: File to write each method's UNet calls to, an ``.npz``; `test_comfy.py` compares them.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
_, COMFYUI, RESULTS = sys.argv
sys.path[:0] = [COMFYUI, *(str(ROOT / name) for name in ("", "tests/fakes", "tests/comfy"))]

import tiny_comfy  # noqa: F401 - First: it tells ComfyUI that there is no GPU.
import numpy as np

import method_checks
import patch_checks
import refused_checks
from run_checks import run_checks

if __name__ == "__main__":
    run_checks(method_checks, patch_checks, refused_checks)
    np.savez(RESULTS, **method_checks.CALLS)
