"""What several files of tests borrow."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def family(monkeypatch: pytest.MonkeyPatch) -> Path:
    """Lends the random family to jobs without a checkpoint; the folder of its layer files."""
    import random_family

    return random_family.lend(monkeypatch)
