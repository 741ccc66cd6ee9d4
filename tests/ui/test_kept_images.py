"""Images that layers were made from come back with the infotext, also after a restart."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from forge_server import ForgeServer
from layers import SIZE
from pictures import glass_ball
from PIL import Image

from lib_layerdiffuse.methods import find_method

if TYPE_CHECKING:
    from webui_page import WebuiPage

METHOD = find_method("fg_to_bg_sd15")


def test_they_come_back_after_a_restart_and_a_missing_one_is_named(
    server: ForgeServer, open_page: Callable[..., WebuiPage], tmp_path: Path
) -> None:
    ball = glass_ball(SIZE)
    Image.fromarray(ball).save(tmp_path / "ball.png")
    page = open_page()
    page.small_job(side=64, steps=1)
    page.open_panel()
    page.choose_method(METHOD.label)
    page.upload("fg_image", tmp_path / "ball.png")
    page.generate()
    assert len(page.gallery()) >= METHOD.frames, page.notes()
    page.page.close()

    server.restart()
    page = open_page()
    page.paste("")
    assert page.method() == METHOD.label
    shown = page.slot("fg_image")
    assert shown is not None
    np.testing.assert_array_equal(shown, ball)
    assert page.toasts() == []

    pictures = server.data_dir.rglob("layerdiffuse-pictures/*.png")
    [kept] = [one for one in pictures if np.array_equal(np.asarray(Image.open(one)), ball)]
    kept.unlink()
    page.paste("")
    assert page.slot("fg_image") is None
    [told] = page.toasts()
    assert f"The image for the Foreground slot is not kept here ({kept.stem[:12]}" in told
