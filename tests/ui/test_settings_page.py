"""The page LayerDiffuse of the WebUI's settings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from client import Client
from forge_server import ForgeServer

if TYPE_CHECKING:
    from webui_page import WebuiPage

OPTIONS = {
    "models_folders": "Further folders with weight files",
    "offline": "Never download weight files",
    "decoder_precision": "Precision of the transparent decoder",
    "decoder_views": "Views of the transparent decoder",
    "offset_strength": "Strength of transparency in img2img",
    "outputs": "Beside the transparent image, always give",
    "layer_files": "Save each set's layers in one file, too",
    "keep_pictures": "Keep the images that layers were made from",
    "pictures_count": "How many of these images are kept",
    "pictures_mib": "How many MiB of these images are kept",
}


def test_every_option_is_there_and_is_kept(
    server: ForgeServer, open_page: Callable[..., WebuiPage], tmp_path: Path
) -> None:
    page = open_page()
    page.open_settings("LayerDiffuse")
    for name, label in OPTIONS.items():
        field = page.option(f"layerdiffuse_{name}")
        assert field.is_visible(), name
        assert label in field.inner_text()
    before = {name: page.setting(f"layerdiffuse_{name}") for name in OPTIONS}
    assert before["decoder_views"] == 1  # As the rig sets it.
    assert before["keep_pictures"] is True
    page.page.screenshot(path=tmp_path / "settings.png")
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
        page.apply_settings()
        told = page.page.locator("#settings_result").inner_text()
        assert " settings changed" in told
        changed = {name for name in OPTIONS if before[name] != wanted[name]}
        assert all(f"layerdiffuse_{name}" in told for name in changed)
        again = open_page()
        assert {name: again.setting(f"layerdiffuse_{name}") for name in OPTIONS} == wanted
    finally:
        options = {f"layerdiffuse_{name}": value for name, value in before.items()}
        Client(server.url).set_options(**options)  # But for the owner's, which the page alone sets.
        page = open_page()
        page.open_settings("LayerDiffuse")
        fill_in(page, before)
        page.apply_settings()


def fill_in(page: WebuiPage, values: dict[str, Any]) -> None:
    """Writes into the page what programs may not set."""
    folders = page.option("layerdiffuse_models_folders").locator("textarea")
    folders.fill(values["models_folders"])
    count = page.option("layerdiffuse_pictures_count").locator("input")
    count.fill(str(values["pictures_count"]))
