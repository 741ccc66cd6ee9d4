"""Masks: what is redrawn and what of the original comes back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib_layerdiffuse.errors import SettingsError
from lib_layerdiffuse.imaging.images import from_u8, premultiply, to_u8
from lib_layerdiffuse.imaging.masks import MaskSource, alpha_mask, feather, put_back


def noise(seed, channels=4):
    return from_u8(np.random.default_rng(seed).integers(0, 256, (6, 8, channels), np.uint8))


def test_masks_of_the_alpha():
    rgba = noise(1)
    assert np.array_equal(alpha_mask(rgba, MaskSource.VISIBLE), rgba[..., 3])
    assert np.array_equal(alpha_mask(rgba, MaskSource.TRANSPARENT), 1 - rgba[..., 3])


@pytest.mark.parametrize(
    ("source", "alpha"), [(MaskSource.VISIBLE, 0.0), (MaskSource.TRANSPARENT, 1.0)]
)
def test_a_picture_without_such_a_part(source, alpha):
    rgba = noise(1)
    rgba[..., 3] = alpha
    with pytest.raises(SettingsError, match=source.value.lower()):
        alpha_mask(rgba, source)


def test_feather_keeps_the_whole_and_softens_edges():
    mask = np.zeros((41, 41), np.float32)
    mask[:, :20] = 1
    soft = feather(mask, 3)
    assert (np.diff(soft, axis=1) <= 1e-6).all()
    np.testing.assert_allclose(soft[:, [0, 40]], [[1, 0]] * 41, atol=1e-6)
    assert 0.3 < soft[20, 20] < 0.6
    assert np.array_equal(feather(mask, 0), mask)
    assert np.array_equal(feather(np.ones_like(mask), 9), np.ones_like(mask))


@given(st.integers(0, 99))
def test_what_is_kept_comes_back_bit_for_bit(seed):
    made, original = noise(seed), noise(seed + 100)
    keep = np.random.default_rng(seed).choice([0.0, 0.3, 1.0], (6, 8)).astype(np.float32)
    result = put_back(made, original, keep)
    assert np.array_equal(to_u8(result)[keep == 1], to_u8(original)[keep == 1])
    assert np.array_equal(result[keep == 0], made[keep == 0])


def test_colours_under_alpha_0_come_back_too():
    original = noise(3)
    original[..., 3] = 0
    assert np.array_equal(put_back(noise(4), original, np.ones((6, 8), np.float32)), original)


def test_a_seam_is_mixed_premultiplied():
    made, original = noise(5), noise(6)
    keep = np.full((6, 8), 0.25, np.float32)
    wanted = 0.75 * premultiply(made) + 0.25 * premultiply(original)
    np.testing.assert_allclose(premultiply(put_back(made, original, keep)), wanted, atol=1e-6)


def test_a_transparent_side_lends_no_colour():
    red, clear = np.zeros((6, 8, 4), np.float32), np.zeros((6, 8, 4), np.float32)
    red[..., [0, 3]], clear[..., 1] = 1, 1
    seam = put_back(clear, red, np.full((6, 8), 0.5, np.float32))
    np.testing.assert_allclose(seam, np.broadcast_to([1, 0, 0, 0.5], (6, 8, 4)), atol=1e-6)
