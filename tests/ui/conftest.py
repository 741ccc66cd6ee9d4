"""Fixtures of the browser tests: the page of a real WebUI in the system's Chromium.

Environment: that of `real_forge` and of `chromium`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from chromium import browser, missing_browser
from forge_server import ForgeServer
from random_weights import SD15
from real_forge import ROOT, make_forge, mark, missing_forge, models, webui
from webuis import Webui

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ViewportSize
    from webui_page import WebuiPage

__all__ = ["browser", "make_forge", "models", "webui"]
# One view is enough: edges do not matter here, time does.
_OPTIONS = {"sd_model_checkpoint": SD15, "layerdiffuse_decoder_views": 1}
_SIZE: ViewportSize = {"width": 1500, "height": 1500}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks this folder's tests, and skips them where something is missing."""
    mark(items, Path(__file__).parent, "e2e_ui", missing_forge() or missing_browser())


@pytest.fixture(scope="session")
def make_server(make_forge: Callable[..., ForgeServer], webui: Webui) -> Callable[..., ForgeServer]:
    """Returns a function that prepares a server with its page; takes what `make_forge` takes."""

    def make(data_dir: Path, **more: object) -> ForgeServer:
        folders = [webui.folder(), data_dir.resolve(), ROOT]
        arguments = [f"--gradio-allowed-path={folder}" for folder in folders]
        return make_forge(data_dir, web_page=True, arguments=arguments, options=_OPTIONS, **more)

    return make


@pytest.fixture(scope="session")
def server(
    make_server: Callable[..., ForgeServer], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ForgeServer]:
    """A running server with this extension and its page, shared by all tests of the session."""
    with make_server(tmp_path_factory.mktemp("forge")) as started:
        print(f"log of the server: {started.log_path}")
        yield started


@contextmanager
def _pages(server: ForgeServer, browser: Browser) -> Iterator[Callable[..., WebuiPage]]:
    from webui_page import WebuiPage

    opened: list[WebuiPage] = []

    def open_page(of: ForgeServer = server) -> WebuiPage:
        opened.append(WebuiPage(browser.new_page(viewport=_SIZE), of.url))
        return opened[-1].load()

    try:
        yield open_page
    finally:
        for page in opened:
            page.page.close()
    assert [error for page in opened for error in page.errors] == []


@pytest.fixture
def open_page(server: ForgeServer, browser: Browser) -> Iterator[Callable[..., WebuiPage]]:
    """Opens fresh pages, of another server if one is given.

    At the end our scripts must have reported no error on any of them.
    """
    with _pages(server, browser) as open_page:
        yield open_page


@pytest.fixture
def page(open_page: Callable[..., WebuiPage]) -> WebuiPage:
    """A fresh page with the WebUI loaded."""
    return open_page()


@pytest.fixture(scope="module")
def shared_page(server: ForgeServer, browser: Browser) -> Iterator[WebuiPage]:
    """The same for all tests of a module that do not mind what others have left in it."""
    with _pages(server, browser) as open_page:
        yield open_page()
