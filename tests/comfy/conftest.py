"""Fixtures of the tests in a real ComfyUI; `real_comfy` says what they need."""

from __future__ import annotations

from pathlib import Path

import pytest
from real_comfy import ComfyUI, named


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks this folder's tests, and skips them where there is no ComfyUI."""
    found = named()
    reason = found.missing() if found else "test in a real ComfyUI: LAYERDIFFUSE_COMFY_DIR not set"
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.comfy)
            if reason is not None:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def comfyui() -> ComfyUI:
    """The checkout."""
    found = named()
    assert found is not None
    return found
