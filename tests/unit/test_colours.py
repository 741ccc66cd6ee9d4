"""Colours under no alpha, and colours that follow an edit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib_layerdiffuse.imaging.colours import fill_hidden, follow_edit
from lib_layerdiffuse.imaging.images import ResizeMode, fit, flatten, pad_colours

GREY = 0.5


def subject(seed=0, side=24):
    """Returns a straight RGBA image with clear, solid and soft pixels."""
    rng = np.random.default_rng(seed)
    rgba = rng.random((side, side, 4), np.float32)
    rgba[: side // 3, :, 3] = 0
    rgba[-side // 3 :, :, 3] = 1
    return rgba


class TestFillHidden:
    @given(st.integers(0, 2**32 - 1))
    def test_changes_only_what_cannot_be_seen(self, seed):
        rgba = subject(seed)
        filled = fill_hidden(rgba)
        visible = rgba[..., 3] > 0
        assert np.array_equal(filled[visible], rgba[visible])
        assert np.array_equal(filled[..., 3], rgba[..., 3])

    def test_continues_the_visible_colours(self):
        rgba = np.zeros((32, 32, 4), np.float32)
        rgba[8:24, 8:24] = (0.8, 0.2, 0.4, 1)
        assert np.abs(fill_hidden(rgba)[..., :3] - (0.8, 0.2, 0.4)).max() < 1e-4
        assert np.array_equal(fill_hidden(rgba), pad_colours(rgba))


class TestFollowEdit:
    @given(st.integers(0, 2**32 - 1))
    def test_no_edit_changes_nothing(self, seed):
        rgba, seen = subject(seed), np.random.default_rng(seed).random((24, 24, 3), np.float32)
        assert np.array_equal(follow_edit(rgba, seen, seen), rgba)

    @pytest.mark.parametrize("factor", [0.5, np.array([0.2, 0.9, 0.6])])
    @pytest.mark.parametrize("offset", [0.0, 0.1])
    def test_an_affine_edit_is_done_to_the_subject_alone(self, factor, offset):
        rgba = subject()
        rgba[..., 3] = np.where(rgba[..., 3] > 0, rgba[..., 3].clip(0.2, 1), 0)
        seen = flatten(rgba, GREY)
        got = follow_edit(rgba, seen, seen * factor + offset)
        wanted = rgba[..., :3] * factor + offset
        visible = rgba[..., 3] > 0
        assert np.abs(got[..., :3] - wanted)[visible].max() < 1e-5
        assert np.array_equal(got[..., 3], rgba[..., 3])

    def test_solid_parts_become_what_the_edit_made_of_them(self):
        rgba = subject()
        seen = flatten(rgba, GREY)
        edited = seen.copy()
        edited[-8:] = np.random.default_rng(1).random((8, 24, 3))
        got = follow_edit(rgba, seen, edited)
        assert np.abs(got[-8:, :, :3] - edited[-8:]).max() < 1e-6
        assert np.array_equal(got[:-8], rgba[:-8])

    def test_rounding_does_not_grow_where_alpha_is_low(self):
        rgba = np.full((8, 8, 4), 0.5, np.float32)
        rgba[..., 3] = 0.01
        seen = flatten(rgba, GREY)
        one = seen + (np.arange(64).reshape(8, 8, 1) % 2) / 255
        assert np.abs(follow_edit(rgba, seen, one)[..., :3] - 0.5).max() <= 5.1 / 255

    def test_a_picture_without_a_clear_part(self):
        rgba = np.full((4, 4, 4), 0.5, np.float32)
        got = follow_edit(rgba, np.full((4, 4, 3), 0.5), np.full((4, 4, 3), 0.6))
        assert np.allclose(got[..., :3], 0.7)

    def test_colours_stay_in_range(self):
        rgba = subject()
        got = follow_edit(rgba, np.zeros((24, 24, 3)), np.ones((24, 24, 3)))
        assert got.min() >= 0
        assert got.max() <= 1
        assert got.dtype == np.float32

    @pytest.mark.parametrize(("width", "height"), [(48, 48), (40, 12)])
    def test_another_size_stretches_all(self, width, height):
        rgba = subject()
        seen = flatten(rgba, GREY)
        grown = fit(seen, width, height, ResizeMode.STRETCH)
        got = follow_edit(rgba, seen, grown)
        wanted = fit(rgba, width, height, ResizeMode.STRETCH)
        assert np.array_equal(got[..., 3], wanted[..., 3])
        visible = wanted[..., 3] > 0
        assert np.abs(got - wanted)[visible].max() < 1e-6
