"""Settings for every test."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Callable, Iterator
from functools import wraps
from importlib.abc import MetaPathFinder
from importlib.util import find_spec

import pytest
from hypothesis import settings

# Threads only slow small networks, tenfold on a busy machine. Here, and in what tests start:
os.environ["OMP_NUM_THREADS"] = "1"
_TORCH = find_spec("torch") is not None


def pytest_configure(config: pytest.Config) -> None:
    """Prepares PyTorch where tests run; the process that hands them to others needs none."""
    if _TORCH and config.getoption("dist", "no") == "no":
        _prepare_torch()


def _prepare_torch() -> None:
    import torch

    torch.set_num_threads(1)

    def spared_without_data(fill: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        @wraps(fill)
        def filled(tensor: torch.Tensor, *args: object, **more: object) -> torch.Tensor:
            return tensor if tensor.is_meta else fill(tensor, *args, **more)

        return filled

    # PyTorch takes long to draw random numbers for tensors that hold none.
    for name in ("kaiming_uniform_", "normal_", "uniform_"):
        setattr(torch.nn.init, name, spared_without_data(getattr(torch.nn.init, name)))


# Times say little on shared machines. CI always tries the same examples; people get new ones.
# `--hypothesis-profile=nightly` looks further.
settings.register_profile("dev", deadline=None, max_examples=25)
settings.register_profile("ci", deadline=None, max_examples=25, derandomize=True)
settings.register_profile("nightly", deadline=None, max_examples=200)
settings.load_profile("ci" if os.environ.get("CI") else "dev")


class _SkipsWithoutTorch(MetaPathFinder):
    """Skips the module of tests, or the test, that imports PyTorch where there is none."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name == "torch":
            pytest.skip("needs PyTorch", allow_module_level=True)


# The libraries of a WebUI are too old for making layers without one.
_STANDALONE = _TORCH and all(find_spec(name) for name in ("accelerate", "gradio", "transformers"))
_OF_STANDALONE = [
    "contract/test_diffusers_*.py",
    "fuzz/test_fuzz.py",
    "golden/test_patches_golden.py",
    "unit/test_batch_*.py",
    "unit/test_cli_generate.py",
    "unit/test_demo.py",
    "unit/test_figures.py",
    "unit/test_standalone_*.py",
    "unit/test_studio_*.py",
    "unit/test_tiny_family.py",
    "unit/test_training.py",
    "weights/test_*.py",
]
_OF_TORCH = ["contract", "e2e", "fuzz", "golden", "ui", "unit/weight_store", "weights"]
collect_ignore_glob = [] if _STANDALONE else _OF_STANDALONE
if not _TORCH:
    collect_ignore_glob = [*_OF_STANDALONE, *_OF_TORCH]
    sys.meta_path.insert(0, _SkipsWithoutTorch())


def pytest_collection_finish() -> None:
    """Spares the collector what is there by now: it would walk through all libraries each time.

    It comes by more seldom, too: a tenth of the time went into it.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Lets interrupts reach a test and what it starts, which a run in the background ignores."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def pytest_report_header() -> list[str]:
    """Says what is left out."""
    said = []
    if not _TORCH:
        said.append(f"not run, for want of PyTorch: {', '.join(_OF_TORCH)}")
    if not _STANDALONE:
        left_out = ", ".join(_OF_STANDALONE)
        said.append(f"not run, for want of requirements-standalone.txt: {left_out}")
    return said
