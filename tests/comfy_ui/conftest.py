"""Fixtures of the tests of ComfyUI's page: that of a real server, in the system's Chromium.

Environment: that of `real_comfy` and of `chromium`. Screenshots are saved with the server's log.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from chromium import browser, missing_browser
from comfy_server import ComfyServer
from real_comfy import missing_comfy, named
from real_forge import mark

if TYPE_CHECKING:
    from comfy_page import ComfyPage
    from playwright.sync_api import Browser

__all__ = ["browser"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks this folder's tests, and skips them where something is missing."""
    mark(items, Path(__file__).parent, "comfy_ui", missing_comfy() or missing_browser())


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyServer]:
    """ComfyUI with this pack, and no models."""
    comfyui = named()
    assert comfyui is not None
    with ComfyServer(comfyui, tmp_path_factory.mktemp("comfyui"), {}, "--cpu") as started:
        print(f"log of the server: {started.log_path}")
        yield started


@pytest.fixture(scope="session")
def page(server: ComfyServer, browser: Browser) -> Iterator[ComfyPage]:
    """The page in English; the tests share it, since it takes long to load."""
    from comfy_page import ComfyPage

    page = browser.new_page(viewport={"width": 1700, "height": 900})
    yield ComfyPage(page, server.url)
    page.close()


@pytest.fixture
def screenshot(server: ComfyServer, page: ComfyPage, request: pytest.FixtureRequest) -> None:
    """Saves what the page shows, once the test has run, and puts it back to English."""
    yield
    name = request.node.name.translate(str.maketrans("[/", "--", "]"))
    page.page.screenshot(path=server.base / f"{name}.png")
    if page.language != "en":
        page.speak("en")
