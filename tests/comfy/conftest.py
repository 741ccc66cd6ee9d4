"""Fixtures of the tests in a real ComfyUI; `real_comfy` says what they need."""

from __future__ import annotations

from pathlib import Path

import pytest
from real_comfy import ComfyUI, missing_comfy, named
from real_forge import mark


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks this folder's tests, and skips them where there is no ComfyUI."""
    mark(items, Path(__file__).parent, "comfy", missing_comfy())


@pytest.fixture(scope="session")
def comfyui() -> ComfyUI:
    """The checkout."""
    found = named()
    assert found is not None
    return found
