"""What is given beside a set's layers."""

from __future__ import annotations

import numpy as np
import pytest

from lib_layerdiffuse import outputs
from lib_layerdiffuse.imaging.images import ResizeMode, checkerboard, composite, to_u8
from lib_layerdiffuse.methods import Layer, find_method
from lib_layerdiffuse.outputs import (
    SHOWS,
    asked_for,
    foreground_extras,
    given_layer,
    matte,
    over,
    preview,
    true_composite,
    with_given,
)
from lib_layerdiffuse.settings.layer_settings import LayerSettings

FG_TO_BG = find_method("fg_to_bg_sd15")
JOINT = find_method("joint_sd15")


def noise(channels: int, height: int = 16, width: int = 24, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (height, width, channels), np.uint8)


@pytest.mark.parametrize(("side", "cell"), [(1024, 64), (512, 64), (96, 12), (4, 1)])
def test_cells_have_64_pixels_and_small_images_still_have_some(side, cell):
    clear = np.zeros((side, side, 4), np.uint8)
    assert np.array_equal(preview(clear), to_u8(checkerboard(side, side, cell)))


def test_a_preview_shows_colour_where_it_is_solid_and_cells_where_it_is_clear():
    rgba = noise(4)
    rgba[:8, :, 3], rgba[8:, :, 3] = 255, 0
    shown = preview(rgba)
    assert np.array_equal(shown[:8], rgba[:8, :, :3])
    assert np.array_equal(shown[8:], to_u8(checkerboard(24, 16, 2))[8:])


def test_a_matte_is_alpha_as_grey():
    rgba = noise(4)
    assert np.array_equal(matte(rgba), rgba[..., 3:].repeat(3, axis=2))


def test_only_what_is_asked_for_comes_beside_a_foreground():
    rgba, before = noise(4), noise(3, seed=1)
    assert foreground_extras(rgba, before, ()) == {}
    every = foreground_extras(rgba, before, SHOWS)
    assert list(every) == ["preview", "matte", "raw"]
    assert every["raw"] is before
    assert "raw" not in foreground_extras(rgba, None, SHOWS)


@pytest.mark.parametrize("name", SHOWS)
def test_each_setting_asks_for_itself(name):
    assert asked_for(LayerSettings(**{name: True})) == {name}


@pytest.mark.parametrize("mode", ResizeMode)
def test_a_given_layer_is_fitted_as_for_the_method(mode):
    given = noise(4, 8, 8)
    settings = LayerSettings(method=FG_TO_BG, fg_image=given, resize_mode=mode)
    fitted = given_layer(settings, Layer.FG, 24, 16)
    assert fitted.shape == (16, 24, 4)
    assert given_layer(settings, Layer.BG, 24, 16) is None


def test_a_set_gets_what_was_given_and_not_made():
    solid, soft = noise(3, 16, 24, 2), noise(4, 16, 24, 3)
    made = {Layer.BG: noise(3), Layer.BLENDED: noise(3, seed=4)}
    for given, channels in ((solid, 3), (soft, 4)):
        whole = with_given(made, LayerSettings(method=FG_TO_BG, fg_image=given))
        assert set(whole) == set(Layer)
        assert np.array_equal(whole[Layer.FG], given)
        assert whole[Layer.FG].shape[2] == channels


def test_a_composite_lays_the_foreground_over_the_background():
    fg, bg = noise(4), noise(3, seed=5)
    composed = true_composite({Layer.FG: fg, Layer.BG: bg}, LayerSettings(method=JOINT))
    alpha = fg[..., 3:] / 255
    wanted = fg[..., :3] * alpha + bg * (1 - alpha)
    np.testing.assert_allclose(composed, wanted, atol=0.51)
    assert true_composite({Layer.FG: fg}, LayerSettings(method=JOINT)) is None


def test_a_large_composite_is_put_together_in_strips(monkeypatch):
    """The floats of the whole would not fit into memory where the layers only just do."""
    fg, bg, rows = noise(4, 600, 8), noise(3, 600, 8, seed=5), []

    def composed(front, back):
        rows.append(len(front))
        return composite(front, back)

    monkeypatch.setattr(outputs, "composite", composed)
    alpha = fg[..., 3:] / 255
    np.testing.assert_allclose(over(fg, bg), fg[..., :3] * alpha + bg * (1 - alpha), atol=0.51)
    assert rows == [256, 256, 88]


def test_a_background_of_another_size_covers_the_layer():
    clear = np.zeros((16, 24, 4), np.uint8)
    bg = np.full((64, 24, 3), 77, np.uint8)
    assert (over(clear, bg) == 77).all()
