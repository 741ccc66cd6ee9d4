"""What our scripts make of a gallery's items and of files, in a page that holds nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from real_forge import ROOT

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

FOLDER = "/data/a folder/100%"
ADDRESS = "file=/data/a%20folder/100%25/%231%3F.png"
URL = "http://127.0.0.1:7860/file=/data/a%20folder/1-fg.png"
DATA = "data:image/png;base64,AA=="
ITEMS = {
    "an item of gradio 4": (
        {"image": {"path": f"{FOLDER}/#1?.png", "url": "http://elsewhere"}, "caption": "fg"},
        (ADDRESS, "#1?.png", "fg"),
    ),
    "an item of gradio 4 with an address alone": (
        {"image": {"path": "", "url": URL}, "caption": None},
        (URL, "1-fg.png", None),
    ),
    "a file of gradio 4": (
        {"path": "C:\\data\\1-layers.psd", "url": "http://elsewhere", "orig_name": "1.psd"},
        ("file=C%3A%5Cdata%5C1-layers.psd", "1-layers.psd", None),
    ),
    "an item of gradio 3 with a caption": (
        [{"name": f"{FOLDER}/#1?.png?1795905318.66", "data": None, "is_file": True}, "fg"],
        (f"{ADDRESS}?1795905318.66", "#1?.png", "fg"),
    ),
    "an item of gradio 3 without a caption": (
        {"name": f"{FOLDER}/#1?.png", "data": None, "is_file": True},
        (ADDRESS, "#1?.png", None),
    ),
    "a file of gradio 3": (
        {"orig_name": "1.zip", "name": "/tmp/1-layers.zip", "data": None, "is_file": True},
        ("file=/tmp/1-layers.zip", "1-layers.zip", None),
    ),
    "an item of gradio 3 that has come with the page's answer": (
        [{"name": "1.png", "data": DATA, "is_file": False}, None],
        (DATA, "1.png", None),
    ),
}


@pytest.fixture(scope="module")
def empty_page(browser: Browser) -> Iterator[Page]:
    """A page with one of our scripts and nothing else."""
    page = browser.new_page()
    page.add_script_tag(path=ROOT / "javascript" / "layerdiffuse_files.js")
    yield page
    page.close()


@pytest.mark.parametrize("name", ITEMS)
def test_the_address_the_name_and_the_caption(empty_page: Page, name: str) -> None:
    item, wanted = ITEMS[name]
    found: dict[str, Any] = empty_page.evaluate("item => layerdiffuseFile(item)", item)
    assert (found["address"], found["name"], found.get("caption")) == wanted
