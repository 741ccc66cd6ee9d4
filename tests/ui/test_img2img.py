"""img2img in the browser: the page's images, masks and maps reach the job with their alpha."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from pictures import glass_ball
from PIL import Image

from lib_layerdiffuse.methods import find_method

if TYPE_CHECKING:
    from img2img_tab import Img2ImgTab
    from webui_page import WebuiPage

FG = find_method("fg_attn_sd15")
SIDE = 64
BOX = np.zeros((SIDE, SIDE), bool)
BOX[20:44, 20:44] = True
CORNERS = np.zeros((SIDE, SIDE), bool)
for rows in (slice(0, 4), slice(-4, None)):
    CORNERS[rows, :4] = CORNERS[rows, -4:] = True


@pytest.fixture
def given(tmp_path: Path) -> Path:
    """A file with a transparent image."""
    Image.fromarray(glass_ball(SIDE)).save(tmp_path / "ball.png")
    return tmp_path / "ball.png"


@pytest.fixture
def mask(tmp_path: Path) -> Path:
    """A file with a box in white on black."""
    Image.fromarray(BOX.astype(np.uint8) * 255).convert("RGB").save(tmp_path / "mask.png")
    return tmp_path / "mask.png"


@pytest.fixture
def tab(page: WebuiPage) -> Img2ImgTab:
    """The tab img2img, ready for a small job of one foreground."""
    from img2img_tab import Img2ImgTab

    tab = Img2ImgTab(page)
    page.small_job(SIDE)
    page.open_panel()
    page.choose_method(FG.label)
    return tab


def made(page: WebuiPage) -> np.ndarray:
    """Returns the foreground that the tab's job makes."""
    page.generate()
    assert "Error" not in page.notes(), page.notes()
    (image,) = page.gallery()
    assert image.shape == (SIDE, SIDE, 4)
    return image


def check_kept(got: np.ndarray, where: np.ndarray) -> None:
    """Checks that the ball came back there, and did not elsewhere.

    The page draws what it is given on a canvas, which keeps only as many digits of a colour as
    its alpha lets through.
    """
    ball = glass_ball(SIDE)
    np.testing.assert_array_equal(got[where][:, 3], ball[where][:, 3])
    seen, wanted = (i[..., :3] * (i[..., 3:] / 255) for i in (got, ball))
    apart = np.abs(seen - wanted).max(axis=2)
    assert apart[where].max() <= 1
    assert apart[~where].max() > 10


def test_the_visible_part_is_redrawn(tab: Img2ImgTab, given: Path) -> None:
    tab.give_picture("img2img_image", given)
    tab.web.choose_radio("mask_source", "Visible part")
    check_kept(made(tab.web), CORNERS)  # The mask is blurred at the edge.
    assert "layerdiffusion_mask_source: Visible part" in tab.web.infotext()


def test_a_mask_is_drawn(tab: Img2ImgTab, given: Path) -> None:
    tab.open_mode("Inpaint")
    tab.give_picture("img2maskimg", given)
    tab.draw("img2maskimg", [(0.4, 0.5), (0.6, 0.5)])
    check_kept(made(tab.web), CORNERS)


def test_a_mask_is_uploaded(tab: Img2ImgTab, given: Path, mask: Path) -> None:
    tab.open_mode("Inpaint upload")
    for slot, file in (("img_inpaint_base", given), ("img_inpaint_mask", mask)):
        tab.give_file(slot, file)
    tab.web.set_number("mask_blur", 0)
    check_kept(made(tab.web), ~BOX)


def test_a_map_says_what_may_change(tab: Img2ImgTab, given: Path, mask: Path) -> None:
    tab.give_picture("img2img_image", given)
    tab.open_map()
    tab.choose_map("Picture", mask)
    check_kept(made(tab.web), CORNERS)
    assert "Differential Diffusion: True" in tab.web.infotext()
