"""The page LayerDiffuse of the WebUI's settings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from client import Client
from forge_server import ForgeServer

if TYPE_CHECKING:
    from settings_tab import SettingsTab
    from webui_page import WebuiPage

OPTIONS = {
    "models_folders": "Further folders with weight files",
    "offline": "Never download weight files",
    "decoder_precision": "Precision of the transparent decoder",
    "decoder_views": "Views of the transparent decoder",
    "decoder_compiled": "Compile the transparent decoder",
    "offset_strength": "Strength of transparency in img2img",
    "outputs": "Beside the transparent image, always give",
    "layer_files": "Save each set's layers in one file, too",
    "keep_pictures": "Keep the images that layers were made from",
    "pictures_count": "How many of these images are kept",
    "pictures_mib": "How many MiB of these images are kept",
}


@pytest.fixture
def open_settings(open_page: Callable[..., WebuiPage]) -> Callable[[], SettingsTab]:
    """Opens our page of the settings in a fresh page of the WebUI."""
    from settings_tab import SettingsTab

    return lambda: SettingsTab(open_page(), "LayerDiffuse")


def test_every_option_is_there_and_is_kept(
    server: ForgeServer, open_settings: Callable[[], SettingsTab], tmp_path: Path
) -> None:
    page = open_settings()
    for name, label in OPTIONS.items():
        field = page.option(f"layerdiffuse_{name}")
        assert field.is_visible(), name
        assert label in field.inner_text()
    before = {name: page.value(f"layerdiffuse_{name}") for name in OPTIONS}
    assert before["decoder_views"] == 1  # As the rig sets it.
    assert before["keep_pictures"] is True
    page.web.page.screenshot(path=tmp_path / "settings.png")
    wanted = before | {
        "decoder_views": 4,
        "outputs": ["Matte"],
        "layer_files": ["psd"],
        "models_folders": "/no/such folder",
        "pictures_count": 500,
    }
    page.option("layerdiffuse_decoder_views").get_by_label("4", exact=True).check()
    page.option("layerdiffuse_outputs").get_by_label("Matte", exact=True).check()
    page.option("layerdiffuse_layer_files").get_by_label("psd", exact=True).check()
    fill_in(page, wanted)
    try:
        told = page.apply()
        assert " settings changed" in told
        changed = {name for name in OPTIONS if before[name] != wanted[name]}
        assert all(f"layerdiffuse_{name}" in told for name in changed)
        again = open_settings()
        assert {name: again.value(f"layerdiffuse_{name}") for name in OPTIONS} == wanted
    finally:
        options = {f"layerdiffuse_{name}": value for name, value in before.items()}
        Client(server.url).set_options(**options)  # But for the owner's, which the page alone sets.
        page = open_settings()
        fill_in(page, before)
        page.apply()


def fill_in(page: SettingsTab, values: dict[str, Any]) -> None:
    """Writes into the page what programs may not set."""
    folders = page.option("layerdiffuse_models_folders").locator("textarea")
    folders.fill(values["models_folders"])
    count = page.option("layerdiffuse_pictures_count").locator("input")
    count.fill(str(values["pictures_count"]))
