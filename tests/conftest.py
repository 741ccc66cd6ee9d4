"""Settings for every test."""

from __future__ import annotations

import os
from importlib.util import find_spec

import torch
from hypothesis import settings

# Threads only slow small networks, tenfold on a busy machine. Here, and in what tests start:
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"

# Times say little on shared machines. CI always tries the same examples; people get new ones.
# `--hypothesis-profile=nightly` looks further.
settings.register_profile("dev", deadline=None, max_examples=25)
settings.register_profile("ci", deadline=None, max_examples=25, derandomize=True)
settings.register_profile("nightly", deadline=None, max_examples=200)
settings.load_profile("ci" if os.environ.get("CI") else "dev")

# The libraries of a WebUI are too old for making layers without one.
_STANDALONE = all(find_spec(name) for name in ("accelerate", "gradio", "transformers"))
_OF_STANDALONE = [
    "contract/test_diffusers_*.py",
    "fuzz/test_fuzz.py",
    "golden/test_patches_golden.py",
    "unit/test_cli_generate.py",
    "unit/test_demo.py",
    "unit/test_figures.py",
    "unit/test_standalone_*.py",
    "unit/test_tiny_family.py",
    "unit/test_training.py",
    "weights/test_*.py",
]
collect_ignore_glob = [] if _STANDALONE else _OF_STANDALONE


def pytest_report_header() -> list[str]:
    """Says what is left out."""
    left_out = ", ".join(_OF_STANDALONE)
    return [] if _STANDALONE else [f"not run, for want of requirements-standalone.txt: {left_out}"]
