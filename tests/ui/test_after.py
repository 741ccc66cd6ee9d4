"""After an image is made, on the page: the Extras tab, and the button that upscales a result."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from forge_server import ForgeServer
from pictures import glass_ball
from PIL import Image

from lib_layerdiffuse.methods import find_method

if TYPE_CHECKING:
    from webui_page import WebuiPage


@pytest.fixture
def ball(tmp_path: Path) -> Path:
    """A transparent image's file."""
    path = tmp_path / "ball.png"
    Image.fromarray(glass_ball(96)).save(path)
    return path


KEEP = "#extras_layerdiffuse_keep_transparency input[type=checkbox]"


def open_extras(page: WebuiPage, picture: Path | None = None) -> None:
    """Opens the tab, with an image if one is given."""
    page.open_tab("extras")
    page.tab = "extras"
    if picture is not None:
        page.page.locator("#extras_image input[type=file]").first.set_input_files(picture)
        page.page.locator("#extras_image img").first.wait_for()
        page.settle()


def upscale(page: WebuiPage) -> None:
    """Doubles what the tab holds, by the one upscaler that all WebUIs have here: the probe's."""
    box = page.page.locator("#extras_upscaler_1 input").first
    box.click()
    box.fill("E2E")
    box.press("Enter")
    page.settle()
    page.set_number("upscaling_resize", 2)
    page.generate()


class TestExtras:
    def test_a_transparent_picture_stays_transparent(
        self, page: WebuiPage, server: ForgeServer, ball: Path
    ) -> None:
        open_extras(page, ball)
        assert page.page.locator(KEEP).is_checked()
        upscale(page)
        [shown] = page.gallery()
        assert shown.shape == (192, 192, 4)
        alpha = Image.fromarray(glass_ball(96)[..., 3]).resize((192, 192), Image.BICUBIC)
        assert np.abs(shown[..., 3].astype(int) - np.asarray(alpha)).max() <= 2
        saved = max(server.data_dir.glob("output*/extras-images/**/*.png"))  # Neo's has no "s".
        np.testing.assert_array_equal(np.asarray(Image.open(saved)), shown)
        assert "Keep transparency" in page.infotext()

    def test_it_can_be_turned_off(self, page: WebuiPage, ball: Path) -> None:
        open_extras(page, ball)
        page.page.locator(KEEP).set_checked(False)
        upscale(page)
        assert page.infotext() == "Postprocess upscale by: 2, Postprocess upscaler: E2E"

    def test_a_folder(self, page: WebuiPage, tmp_path: Path) -> None:
        source, results = tmp_path / "in", tmp_path / "out"
        source.mkdir()
        for name, mode in (("one", "RGBA"), ("grey", "LA")):
            Image.fromarray(glass_ball(64)).convert(mode).save(source / f"{name}.png")
        open_extras(page)
        page.open_inner_tab("mode_extras", "Batch from Directory")
        for field, folder in (("input", source), ("output", results)):
            box = page.page.locator(f"#extras_batch_{field}_dir textarea").first
            box.fill(str(folder))
        upscale(page)
        made = [np.asarray(Image.open(path)) for path in results.glob("*.png")]
        assert [image.shape for image in made] == [(128, 128, 4)] * 2
        assert [image[..., 3].min() for image in made] == [0, 0]


def test_the_button_that_upscales_a_result(page: WebuiPage) -> None:
    page.small_job(steps=1)
    page.open_panel()
    page.choose_method(find_method("fg_attn_sd15").label)
    page.generate()
    [before] = page.gallery()
    page.page.locator("#txt2img_upscale").click()
    page.wait_for_job()
    [after] = page.gallery()
    assert (before.shape, after.shape) == ((128, 128, 4), (256, 256, 4))
    assert after[..., 3].std() > 1
    assert "Hires upscale" in page.infotext()
