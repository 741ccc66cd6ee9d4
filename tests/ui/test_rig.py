"""The rig itself: a page that is loaded, a panel that opens, a job that is waited for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from layers import SIZE
from pictures import glass_ball
from PIL import Image

from lib_layerdiffuse.methods import Layer, find_method

if TYPE_CHECKING:
    from webui_page import WebuiPage


def test_the_panel_opens_and_shows_what_a_method_needs(page: WebuiPage) -> None:
    assert not page.enabled()
    page.open_panel()
    assert page.enabled()
    method = find_method("fg_to_bg_sd15")
    page.choose_method(method.label)
    shown = page.visible_inputs()
    assert {"method", "strength", "stop_at", "resize_mode", "fg_image"} <= set(shown)
    assert not {"bg_image", "blended_image", "fg_prompt"} & set(shown)
    page.open_tab("img2img")
    assert not page.enabled()


def test_a_slot_keeps_alpha(page: WebuiPage, tmp_path: Path) -> None:
    ball = glass_ball(SIZE)
    Image.fromarray(ball).save(tmp_path / "ball.png")
    page.open_panel()
    page.choose_method(find_method("fg_to_bg_sd15").label)
    assert page.slot("fg_image") is None
    page.upload("fg_image", tmp_path / "ball.png")
    shown = page.slot("fg_image")
    assert shown is not None
    np.testing.assert_array_equal(shown, ball)


def test_a_job_shows_its_layers(page: WebuiPage) -> None:
    method = find_method("joint_sd15")
    page.small_job()
    page.open_panel()
    page.choose_method(method.label)
    page.generate()
    shown = page.gallery()
    kinds = [4 if layer is Layer.FG else 3 for layer in method.outputs]
    assert [picture.shape for picture in shown[-3:]] == [(128, 128, kind) for kind in kinds]
    assert method.label in page.infotext()
