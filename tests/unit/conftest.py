"""What several files of tests borrow."""

from __future__ import annotations

from pathlib import Path

import pytest
import random_family


@pytest.fixture(scope="session")
def random_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with small random checkpoints and layer files; leave it as it is."""
    return random_family.write(tmp_path_factory.mktemp("random_family"))


@pytest.fixture
def family(random_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Lends the random family to jobs without a checkpoint of their own."""
    random_family.lend(random_folder, monkeypatch)
    return random_folder
