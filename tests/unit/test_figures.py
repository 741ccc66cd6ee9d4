"""The figures that the tiny family is measured by."""

from __future__ import annotations

import numpy as np
import pytest

from lib_layerdiffuse.demo.evaluation import evaluate
from lib_layerdiffuse.demo.figures import Figure, foreground_figures, matched_psnr
from lib_layerdiffuse.errors import SettingsError
from lib_layerdiffuse.quality.composites import psnr
from lib_layerdiffuse.standalone.models import Models
from lib_layerdiffuse.tiny import layer_store, scenes


def test_shuffled_layers_are_the_next_ones() -> None:
    pictures = [np.full((4, 4, 3), value, np.float32) for value in (0.0, 0.1, 0.2)]
    right, shuffled = matched_psnr(pictures, pictures)
    assert right == 60
    assert shuffled == pytest.approx((20 + 20 + psnr(pictures[2], pictures[0])) / 3)


def test_the_truth_reaches_every_goal_and_opaque_pictures_none() -> None:
    drawn = [scenes.scene(seed, 96, unseen=True) for seed in range(40)]
    truth = foreground_figures([scene.fg for scene in drawn], drawn)
    assert truth["alone on nothing, %"] == 100
    assert truth["named colour, %"] == 100
    assert truth["softness ratio"] > 3
    opaque = foreground_figures(
        [np.dstack([scene.blended, np.ones((96, 96), np.float32)]) for scene in drawn], drawn
    )
    assert opaque["alone on nothing, %"] == 0
    assert opaque["named colour, %"] < 60
    assert opaque["softness ratio"] == 0


def test_a_figure_knows_whether_it_is_reached() -> None:
    least = Figure("codec_sd15", "PSNR", 27.0, 26.0, None, 1)
    most = Figure("codec_sd15", "alpha MAE", 0.04, 0.03, 0.2, 1, at_most=True)
    assert least.reached
    assert not most.reached
    assert most.as_dict()["reached"] is False


def test_an_unknown_part_is_refused_before_anything_is_drawn() -> None:
    with pytest.raises(SettingsError, match="joint_sd15"):
        list(evaluate(["codec_sd15", "joint"], Models(layer_store)))
