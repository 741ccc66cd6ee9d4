"""The system's Chromium, driven by Playwright.

Environment:
    LAYERDIFFUSE_CHROMIUM: The browser, by default the first of chromium, chromium-browser and
        google-chrome on the path.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

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


def missing_browser() -> str | None:
    """Returns why there is no browser to test in, or None."""
    if importlib.util.find_spec("playwright") is None:
        return "test in a browser: playwright is not installed (requirements-ui.txt)"
    if _chromium() is None:
        return "test in a browser: no Chromium on the path or under LAYERDIFFUSE_CHROMIUM"
    return None


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The browser, shared by all tests of the session."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=_chromium(), args=list(_QUIET))
        yield started
        started.close()
