"""Our axes of the X/Y/Z plot, as the page offers them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lib_layerdiffuse.methods import find_method

if TYPE_CHECKING:
    from webui_page import WebuiPage

AXES = [
    "Method",
    "Weight",
    "Stop at",
    "Resize mode",
    "Foreground prompt",
    "Background prompt",
    "Blended prompt",
]


def test_a_plot_over_the_weight(page: WebuiPage) -> None:
    page.small_job(side=128)
    page.open_panel()
    page.choose_method(find_method("fg_attn_sd15").label)
    page.choose_script("X/Y/Z plot")
    for name in AXES:
        page.plot_axis("x", f"[LayerDiffuse] {name}")
    page.plot_axis("x", "[LayerDiffuse] Weight", "0, 1")
    page.tick_plot("include_lone_images")
    page.generate()
    grid, without, full = page.gallery()
    assert grid.shape[1] >= 2 * 128
    assert without.shape == full.shape == (128, 128, 4)
    assert np.abs(without.astype(int) - full).max() > 10
    assert "layerdiffusion_weight: 0," in page.infotext(), "that of the first cell"
