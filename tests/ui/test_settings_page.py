"""The page LayerDiffuse of the WebUI's settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from client import Client
from forge_server import ForgeServer

if TYPE_CHECKING:
    from webui_page import WebuiPage

OPTIONS = {
    "models_folders": "Further folders with weight files",
    "offline": "Never download weight files",
    "decoder_precision": "Precision of the transparent decoder",
    "decoder_views": "Views of the transparent decoder",
    "outputs": "Beside the transparent picture, always give",
    "layer_files": "Save each set's layers in one file, too",
    "keep_pictures": "Keep the pictures that layers were made from",
}


def test_every_option_is_there_and_acts(server: ForgeServer, page: WebuiPage) -> None:
    client = Client(server.url)
    before = {k: v for k, v in client.options().items() if k.startswith("layerdiffuse_")}
    assert set(before) == {f"layerdiffuse_{name}" for name in OPTIONS}
    page.open_settings("LayerDiffuse")
    for name, label in OPTIONS.items():
        field = page.option(f"layerdiffuse_{name}")
        assert field.is_visible(), name
        assert label in field.inner_text()
    try:
        page.option("layerdiffuse_decoder_views").get_by_label("4", exact=True).check()
        page.option("layerdiffuse_outputs").get_by_label("Matte", exact=True).check()
        page.option("layerdiffuse_layer_files").get_by_label("psd", exact=True).check()
        page.option("layerdiffuse_models_folders").locator("textarea").fill("/no/such folder")
        page.apply_settings()
        after = client.options()
        assert after["layerdiffuse_decoder_views"] == 4
        assert after["layerdiffuse_outputs"] == ["Matte"]
        assert after["layerdiffuse_layer_files"] == ["psd"]
        assert after["layerdiffuse_models_folders"] == "/no/such folder"
    finally:
        client.set_options(**before)
