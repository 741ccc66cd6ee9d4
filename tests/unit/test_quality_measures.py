"""The figures of transparent images: by hand, by other programs, and of an image beside itself."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lib_layerdiffuse.imaging.images import FloatImage
from lib_layerdiffuse.quality import matting
from lib_layerdiffuse.quality.composites import BACKGROUNDS, fringe, psnr, ssim
from lib_layerdiffuse.quality.measures import DIFFERENCES, MEASURES, measured
from lib_layerdiffuse.quality.summaries import summarised
from lib_layerdiffuse.quality.transparency import (
    colour_error,
    haze,
    kept_solid,
    red_cast,
    soft_iou,
)

DOWN, RIGHT = (np.mgrid[0:32, 0:32] / 31).astype(np.float32)


def plain(alpha: float, *colour: float, side: int = 16) -> FloatImage:
    """An image of one colour and alpha."""
    return np.full((side, side, 4), (*(colour or (0.5, 0.5, 0.5)), alpha), np.float32)


def disc(centre: float) -> FloatImage:
    """The alpha of a soft disc."""
    away = np.hypot(RIGHT - np.float32(centre), DOWN - np.float32(0.5))
    return np.clip((0.4 - away) / 0.25, 0, 1).astype(np.float32)


def subject() -> FloatImage:
    """A soft disc with clear, soft and opaque pixels."""
    return np.dstack([RIGHT, DOWN, 1 - RIGHT, disc(0.5)]).astype(np.float32)


def test_every_measure_has_its_ideal_value_of_the_truth_itself():
    found = measured(subject(), subject(), [*MEASURES, *DIFFERENCES])
    for one in (*MEASURES, *DIFFERENCES):
        assert found[one.id] == pytest.approx(one.ideal, abs=1e-9), one.id


def test_every_measure_is_off_its_ideal_of_another_image():
    seen = subject()
    seen[..., 3] = np.clip(0.9 * seen[..., 3] + 0.02, 0, 1)
    seen[..., 0] *= 0.5
    found = measured(seen, subject(), [*MEASURES, *DIFFERENCES])
    for one in (*MEASURES, *DIFFERENCES):
        assert abs(found[one.id] - one.ideal) > 1e-6, one.id


def test_measures_have_ids_of_their_own():
    ids = [one.id for one in (*MEASURES, *DIFFERENCES)]
    assert len(set(ids)) == len(ids) == 33


@pytest.mark.parametrize(("alpha", "there"), [(0.0, {"haze"}), (1.0, {"kept_opaque"})])
def test_what_is_not_there_is_not_measured(alpha, there):
    found = measured(plain(alpha), plain(alpha))
    absent = {id for id, value in found.items() if math.isnan(value)}
    soft = {"sad", "mse", "gradient", "connectivity", "fringe_black", "fringe_white"}
    of_seen = {"colour_error", "red_cast"} if alpha == 0 else set()
    assert absent == soft | of_seen | ({"haze", "kept_opaque"} - there)


# Composites


def test_psnr_of_a_known_error():
    truth = np.zeros((4, 4, 3), np.float32)
    assert psnr(truth + 0.1, truth) == pytest.approx(20)
    assert psnr(truth, truth) == 60  # noise-free images have no finite one


def test_psnr_looks_where_it_is_told():
    truth = np.zeros((4, 4, 3), np.float32)
    seen = truth.copy()
    seen[0] = 1
    where = np.ones((4, 4), bool)
    where[0] = False
    assert psnr(seen, truth, where) == 60
    assert psnr(seen, truth, ~where) == 0
    assert np.isnan(psnr(seen, truth, np.zeros((4, 4), bool)))


def test_ssim_is_that_of_another_program():
    """Of scikit-image 0.26: Gaussian windows, sigma 1.5, no sample covariance, range 1, luma."""
    truth = np.stack([RIGHT * DOWN, RIGHT, 1 - DOWN], 2)
    seen = np.stack([RIGHT * DOWN**2, RIGHT**1.5, 0.9 - 0.8 * DOWN], 2)
    assert ssim(seen, truth) == pytest.approx(0.9290143663533094, abs=1e-6)


def test_ssim_of_plain_images_is_that_of_their_means():
    half, quarter = (np.full((16, 16, 3), grey, np.float32) for grey in (0.5, 0.25))
    known = (2 * 0.5 * 0.25 + 1e-4) / (0.5**2 + 0.25**2 + 1e-4)
    assert ssim(half, quarter) == pytest.approx(known)


def test_there_are_nine_backgrounds_and_their_mean():
    seen, truth = plain(0.5, 0.2, 0.2, 0.2), plain(0.5, 0.4, 0.4, 0.4)
    found = measured(seen, truth)
    assert len(BACKGROUNDS) == 9
    each = [found[f"psnr_{colour}"] for colour in BACKGROUNDS]
    assert each == pytest.approx([20] * 9)  # colours that are seen by half are off by 0.2
    assert found["psnr_mean"] == pytest.approx(20)


def test_a_background_shows_through():
    found = measured(plain(0.9, 1, 0, 0), plain(1, 1, 0, 0))
    assert found["psnr_red"] == 60
    assert found["psnr_black"] == pytest.approx(-10 * np.log10(0.01 / 3), abs=1e-3)
    assert found["psnr_cyan"] == pytest.approx(20, abs=1e-3)


def test_a_light_rim_is_seen_on_black_and_a_dark_one_on_white():
    truth = plain(0.5, 0.5, 0.5, 0.5)
    light = plain(0.75, 2 / 3, 2 / 3, 2 / 3)  # White has been laid below it.
    assert fringe(light, truth, 0.0) == pytest.approx(0.25 * 255, rel=1e-4)
    assert fringe(light, truth, 1.0) == pytest.approx(0, abs=1e-3)
    dark = plain(0.75, 1 / 3, 1 / 3, 1 / 3)
    assert fringe(dark, truth, 0.0) == pytest.approx(0, abs=1e-3)
    assert fringe(dark, truth, 1.0) == pytest.approx(0.25 * 255, rel=1e-4)


# Alpha mattes


def ramp(*alphas: float) -> FloatImage:
    return np.array([alphas], np.float32)


def test_the_unknown_region_leaves_its_borders_out():
    truth = ramp(0, 0.05, 0.06, 0.5, 0.94, 0.95, 1)
    assert matting.unknown_region(truth).tolist() == [
        [False, False, True, True, True, False, False]
    ]


def test_sad_and_mse_count_the_unknown_region_in_their_units():
    truth, seen = ramp(0, 0.5, 0.5, 1), ramp(1, 0.75, 0.4, 0)
    assert matting.sum_of_differences(seen, truth) == pytest.approx(0.35 / 1000)
    assert matting.mean_square_error(seen, truth) == pytest.approx(
        1000 * (0.0625 + 0.01) / 2, rel=1e-5
    )


def test_the_gradient_error_is_that_of_another_program():
    """Of SciPy's gaussian_filter, cut off 4 pixels away, its weights scaled to a norm of 1."""
    found = matting.gradient_error(disc(0.54), disc(0.5))
    assert found == pytest.approx(0.008612990693073417, rel=1e-4)


def test_the_gradient_error_sees_edges_and_no_level():
    truth = 0.2 + 0.6 * disc(0.5)
    assert matting.gradient_error(truth + 0.1, truth) == pytest.approx(0, abs=1e-9)
    flat = np.full_like(truth, 0.5)
    assert matting.gradient_error(flat, truth) == pytest.approx(
        4 * matting.gradient_error(flat, 0.5 * truth + 0.25), rel=1e-4
    )


def test_what_is_cut_off_is_less_connected():
    """A bridge of 0.5 holds an island; where the seen one has 0.2, the island hangs by 0.2."""
    truth = np.array([[1, 1, 1, 0.5, 0.9]], np.float32)
    seen = np.array([[1, 1, 1, 0.2, 0.9]], np.float32)
    # Levels of both: the bridge 0.2, the island 0.2. Excess of the truth: 0.3 and 0.7; of the
    # seen one: 0 and 0.7.
    assert matting.connectivity_error(seen, truth) == pytest.approx(0.3 / 1000, rel=1e-5)


def test_a_small_excess_is_still_connected():
    truth = np.array([[1, 1, 1, 0.58]], np.float32)
    seen = np.array([[1, 1, 1, 0.5]], np.float32)
    assert matting.connectivity_error(seen, truth) == 0  # 0.08 and 0 above the level of 0.5


# Transparency


def test_soft_iou_counts_partial_alpha():
    half, full = np.full((4, 4), 0.5), np.ones((4, 4))
    assert soft_iou(half, full) == pytest.approx(0.5)
    assert soft_iou(full, full) == 1
    assert soft_iou(0 * full, full) == 0


def test_two_empty_alphas_are_alike():
    empty = np.zeros((4, 4))
    assert soft_iou(empty, empty) == 1
    assert soft_iou(empty + 0.1, empty) == 0


def test_haze_is_alpha_where_there_should_be_none():
    truth, seen = plain(0), plain(0)
    truth[0, :, 3] = 1
    seen[..., 3] = 2 / 255
    assert haze(seen, truth) == pytest.approx(2)


def test_opaque_pixels_are_counted_that_stay_solid():
    truth, seen = plain(1), plain(0.96)
    seen[:4, :, 3] = 0.94
    assert kept_solid(seen, truth) == pytest.approx(75)


def test_colours_count_by_their_alpha():
    truth = plain(0.25)
    truth[0, :, 3] = 1
    seen = truth.copy()
    seen[0, :, 0] += 0.3
    share = 16 / (16 + 15 * 16 * 0.25)
    assert colour_error(seen, truth) == pytest.approx(255 * 0.1 * share, rel=1e-5)
    assert red_cast(seen, truth) == pytest.approx(255 * 0.3 * share, rel=1e-5)
    seen[0, :, 1:] += 0.3  # Lighter, but no redder.
    assert red_cast(seen, truth) == pytest.approx(0, abs=1e-4)


# Many images


def test_a_summary_has_the_mean_and_the_worst_image():
    measures = [one for one in MEASURES if one.id in ("psnr_grey", "red_cast", "haze")]
    nan = math.nan
    values = {
        "a": {"psnr_grey": 30.0, "red_cast": 2.0, "haze": nan},
        "b": {"psnr_grey": 20.0, "red_cast": -4.0, "haze": nan},
        "c": {"psnr_grey": 40.0, "red_cast": nan, "haze": nan},
    }
    rows = {one.measure.id: one for one in summarised(measures, values)}
    assert (rows["psnr_grey"].mean, rows["psnr_grey"].worst_image) == (30, "b")
    assert (rows["red_cast"].mean, rows["red_cast"].worst, rows["red_cast"].count) == (-1, -4, 2)
    assert rows["haze"].count == 0
    assert rows["haze"].as_dict()["mean"] is None
