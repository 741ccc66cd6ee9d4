"""A Hub on the loopback interface, and folders of weight files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_server import HubServer
from small_weights import GOOD, NAME

from lib_layerdiffuse.weights import checksums, hub


@pytest.fixture(autouse=True)
def _env(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_HUB_OFFLINE", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(hub, "RETRY_WAIT", 0.01)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with HubServer({NAME: GOOD}) as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "models" / "layer_model"
    path.mkdir(parents=True)
    return path


@pytest.fixture
def extra(tmp_path: Path) -> Path:
    path = tmp_path / "elsewhere"
    path.mkdir()
    return path


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Paths whose bytes were read for hashing."""
    seen: list[Path] = []
    real = checksums.sha256_of

    def count(path: Path) -> str:
        seen.append(path)
        return real(path)

    monkeypatch.setattr(checksums, "sha256_of", count)
    return seen
