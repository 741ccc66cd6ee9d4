"""Fixtures of the browser tests: the page of a real WebUI in the system's Chromium.

Environment: that of `real_forge`, and
    LAYERDIFFUSE_CHROMIUM: The browser, by default the first of chromium, chromium-browser and
        google-chrome on the path.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from client import Client
from forge_server import ForgeServer
from random_weights import SD15
from real_forge import ROOT, forge_dir, make_forge, mark, missing_forge, models

if TYPE_CHECKING:
    from playwright.sync_api import Browser
    from webui_page import WebuiPage

__all__ = ["make_forge", "models"]
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def _chromium() -> str | None:
    named = os.environ.get("LAYERDIFFUSE_CHROMIUM")
    return shutil.which(named) if named else next(filter(None, map(shutil.which, _BROWSERS)), None)


def _missing() -> str | None:
    if missing_forge():
        return missing_forge()
    if importlib.util.find_spec("playwright") is None:
        return "test in a browser: playwright is not installed (requirements-ui.txt)"
    if _chromium() is None:
        return "test in a browser: no Chromium on the path or under LAYERDIFFUSE_CHROMIUM"
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks this folder's tests, and skips them where something is missing."""
    mark(items, Path(__file__).parent, "e2e_ui", _missing())


@pytest.fixture(scope="session")
def server(
    make_forge: Callable[..., ForgeServer], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ForgeServer]:
    """A running server with this extension and its page, shared by all tests of the session."""
    data_dir = tmp_path_factory.mktemp("forge")
    folders = [forge_dir(), data_dir.resolve(), ROOT]
    arguments = [f"--gradio-allowed-path={folder}" for folder in folders]
    options = {"layerdiffuse_decoder_views": 1}  # Edges do not matter here, time does.
    with make_forge(data_dir, web_page=True, arguments=arguments, options=options) as started:
        print(f"log of the server: {started.log_path}")
        Client(started.url).use_checkpoint(SD15)
        yield started


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The browser, shared by all tests of the session."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=_chromium(), args=list(_QUIET))
        yield started
        started.close()


@pytest.fixture
def page(server: ForgeServer, browser: Browser) -> Iterator[WebuiPage]:
    """A fresh page with the WebUI loaded; at the end our scripts must have reported no error."""
    from webui_page import WebuiPage

    tab = browser.new_page(viewport={"width": 1500, "height": 1500})
    loaded = WebuiPage(tab, server.url).load()
    yield loaded
    tab.close()
    assert loaded.errors == []
