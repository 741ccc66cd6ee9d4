"""The image functions: identities, round trips and limits, on arbitrary small images."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lib_layerdiffuse.errors import ImageSizeError, SettingsError
from lib_layerdiffuse.imaging import images
from lib_layerdiffuse.imaging.images import ResizeMode

SIDES = st.integers(1, 24)
MODES = st.sampled_from(ResizeMode)


def pictures(channels: int, shape: tuple[int, int] | None = None) -> st.SearchStrategy[np.ndarray]:
    """Float images whose values are 8-bit levels, as files and the decoder give them."""
    shapes = st.tuples(SIDES, SIDES) if shape is None else st.just(shape)
    return shapes.flatmap(
        lambda s: hnp.arrays(np.uint8, (*s, channels), elements=st.integers(0, 255))
    ).map(images.from_u8)


def disc(size: int = 32) -> np.ndarray:
    """A red disc with a soft edge; green where alpha is 0, which must never show."""
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    alpha = np.clip(size / 3 - np.hypot(y, x), 0, 1)
    rgba = np.zeros((size, size, 4), np.float32)
    rgba[..., 0] = alpha > 0
    rgba[..., 1] = alpha == 0
    rgba[..., 3] = alpha
    return rgba


class TestFit:
    def test_has_the_names_that_users_of_the_webui_know(self):
        assert [m.value for m in ResizeMode] == [
            "Just Resize",
            "Crop and Resize",
            "Resize and Fill",
        ]

    @given(st.sampled_from([3, 4]).flatmap(pictures), SIDES, SIDES, MODES)
    def test_gives_the_size_and_stays_in_range(self, picture, width, height, mode):
        fitted = images.fit(picture, width, height, mode)
        assert fitted.shape == (height, width, picture.shape[2])
        assert fitted.dtype == np.float32
        assert fitted.min() >= 0
        assert fitted.max() <= 1

    @pytest.mark.parametrize("mode", ResizeMode)
    @pytest.mark.parametrize("size", [(1, 3000), (3000, 1), (7, 5), (640, 480)])
    def test_takes_extreme_aspect_ratios(self, mode, size):
        fitted = images.fit(np.full((size[1], size[0], 4), 0.5), 96, 64, mode)
        assert fitted.shape == (64, 96, 4)
        np.testing.assert_allclose(fitted, 0.5, atol=1e-5)

    @given(st.sampled_from([3, 4]).flatmap(pictures), MODES)
    def test_same_size_is_the_same_picture_and_a_copy(self, picture, mode):
        fitted = images.fit(picture, picture.shape[1], picture.shape[0], mode)
        assert np.array_equal(fitted, picture)
        assert not np.shares_memory(fitted, picture)

    @given(st.floats(0, 1, width=32), st.tuples(SIDES, SIDES), st.tuples(SIDES, SIDES), MODES)
    def test_a_plain_colour_stays(self, value, old, new, mode):
        plain = np.full((*old, 4), value, np.float32)
        plain[..., 3] = 1
        fitted = images.fit(plain, *new, mode)
        np.testing.assert_allclose(fitted[..., 3], 1, atol=1e-5)
        np.testing.assert_allclose(fitted[..., :3], value, atol=1e-5)

    @pytest.mark.parametrize("mode", ResizeMode)
    @pytest.mark.parametrize("size", [(11, 13), (64, 96), (16, 64), (512, 8)])
    def test_colours_under_alpha_0_never_show(self, mode, size):
        fitted = images.fit(disc(), *size, mode)
        assert fitted[..., 1].max() == 0
        assert (fitted[..., 0][fitted[..., 3] > 0.01] > 0.99).all()

    def test_crop_keeps_the_middle(self):
        picture = np.zeros((10, 30, 3), np.float32)
        picture[:, 10:20] = 1
        assert (images.fit(picture, 10, 10, ResizeMode.CROP) == 1).all()
        assert (images.fit(picture.transpose(1, 0, 2), 10, 10, ResizeMode.CROP) == 1).all()

    def test_crop_is_symmetric(self):
        picture = np.linspace(0, 1, 301, dtype=np.float32)[None, :, None].repeat(8, 0).repeat(3, 2)
        fitted = images.fit(picture, 64, 64, ResizeMode.CROP)
        np.testing.assert_allclose(fitted + fitted[:, ::-1], 1, atol=0.01)

    def test_fill_repeats_the_edges(self):
        picture = np.zeros((4, 8, 3), np.float32)
        picture[0], picture[-1] = 0.25, 0.75
        filled = images.fit(picture, 8, 12, ResizeMode.FILL)
        assert (filled[:4] == 0.25).all()
        assert (filled[8:] == 0.75).all()
        assert np.array_equal(filled[4:8], picture)

    def test_fill_repeats_alpha_with_the_colour(self):
        picture = np.full((4, 8, 4), 0.5, np.float32)
        filled = images.fit(picture, 8, 8, ResizeMode.FILL)
        np.testing.assert_allclose(filled, 0.5)

    def test_stretch_averages_areas_when_shrinking(self):
        picture = np.indices((8, 8)).sum(0)[..., None].repeat(3, 2) % 2
        np.testing.assert_allclose(
            images.fit(picture.astype(np.float32), 4, 4, ResizeMode.STRETCH), 0.5
        )

    def test_takes_the_name_of_a_mode(self):
        assert images.fit(disc(), 8, 8, "Just Resize").shape == (8, 8, 4)

    @pytest.mark.parametrize("size", [(0, 8), (8, 0), (-1, 8)])
    def test_refuses_a_size_without_pixels(self, size):
        with pytest.raises(ImageSizeError, match="at least 1 x 1"):
            images.fit(disc(), *size, ResizeMode.STRETCH)


class TestPremultiply:
    @given(pictures(4))
    def test_there_and_back_where_something_shows(self, rgba):
        back = images.unpremultiply(images.premultiply(rgba))
        shown = rgba[..., 3] > 0
        np.testing.assert_allclose(back[shown], rgba[shown], atol=1e-6)
        assert (back[~shown] == 0).all()

    @given(pictures(4))
    def test_never_exceeds_alpha(self, rgba):
        premultiplied = images.premultiply(rgba)
        assert (premultiplied[..., :3] <= premultiplied[..., 3:]).all()

    def test_stays_finite_for_the_smallest_alpha(self):
        tiny = np.array([[[1.0, 1e-40, 0.0, 1e-40]]], np.float32)
        assert np.isfinite(images.unpremultiply(tiny)).all()


class TestComposite:
    @given(pictures(4), st.floats(0, 1, width=32))
    def test_flatten_is_composite_over_a_constant(self, rgba, grey):
        background = np.full((*rgba.shape[:2], 3), grey, np.float32)
        assert np.array_equal(images.flatten(rgba, grey), images.composite(rgba, background))

    def test_flatten_takes_a_colour(self):
        clear = np.zeros((2, 2, 4), np.float32)
        np.testing.assert_allclose(images.flatten(clear, (0.25, 0.5, 1.0))[0, 0], [0.25, 0.5, 1.0])
        np.testing.assert_allclose(images.flatten(clear), 0.5)

    @given(pictures(4, (5, 6)), st.sampled_from([3, 4]).flatmap(lambda c: pictures(c, (5, 6))))
    def test_alpha_1_shows_only_the_foreground(self, fg, bg):
        fg[..., 3] = 1
        assert np.array_equal(images.composite(fg, bg), fg[..., : bg.shape[2]])

    @given(pictures(4, (5, 6)), pictures(3, (5, 6)))
    def test_alpha_0_shows_only_the_background(self, fg, bg):
        fg[..., 3] = 0
        assert np.array_equal(images.composite(fg, bg), bg)

    @given(pictures(4, (5, 6)), pictures(4, (5, 6)), pictures(3, (5, 6)))
    def test_is_associative(self, a, b, c):
        one = images.composite(images.composite(a, b), c)
        two = images.composite(a, images.composite(b, c))
        np.testing.assert_allclose(one, two, atol=1e-5)

    @given(pictures(4, (5, 6)), pictures(4, (5, 6)))
    def test_an_opaque_background_may_have_an_alpha(self, fg, bg):
        bg[..., 3] = 1
        over = images.composite(fg, bg)
        np.testing.assert_allclose(over[..., 3], 1, atol=1e-6)
        np.testing.assert_allclose(over[..., :3], images.composite(fg, bg[..., :3]), atol=1e-6)

    def test_refuses_another_size(self):
        with pytest.raises(ImageSizeError, match=r"Expected a background of 32 x 32, got 8 x 9\."):
            images.composite(disc(), np.zeros((9, 8, 3)))


class TestPadColours:
    @given(pictures(4))
    def test_keeps_alpha_and_opaque_colours(self, rgba):
        padded = images.pad_colours(rgba)
        opaque = rgba[..., 3] == 1
        assert np.array_equal(padded[..., 3], rgba[..., 3])
        assert np.array_equal(padded[opaque], rgba[opaque])

    @given(pictures(4))
    def test_makes_no_colour_outside_the_visible_ones(self, rgba):
        shown = rgba[rgba[..., 3] > 0][:, :3]
        lowest, highest = (shown.min(0), shown.max(0)) if len(shown) else (0.5, 0.5)
        padded = images.pad_colours(rgba)[..., :3]
        assert (padded >= lowest - 1e-4).all()
        assert (padded <= highest + 1e-4).all()

    @given(pictures(4))
    def test_ignores_colours_under_alpha_0(self, rgba):
        other = rgba.copy()
        other[other[..., 3] == 0, :3] = 0.123
        assert np.array_equal(images.pad_colours(rgba), images.pad_colours(other))

    def test_one_visible_colour_fills_the_picture(self):
        rgba = np.zeros((40, 24, 4), np.float32)
        rgba[30:, 20:] = (0.2, 0.4, 0.8, 1)
        padded = images.pad_colours(rgba)[..., :3]
        np.testing.assert_allclose(padded - np.float32([0.2, 0.4, 0.8]), 0, atol=1e-5)

    def test_far_from_everything_the_colour_is_near_the_mean(self):
        rgba = np.zeros((64, 64, 4), np.float32)
        rgba[:, 28:32], rgba[:, 32:36] = (1, 0, 0, 1), (0, 0, 1, 1)
        left, right = images.pad_colours(rgba)[32, [0, -1]]
        assert left[0] > left[2]
        assert right[2] > right[0]
        np.testing.assert_allclose(left[0] + left[2], 1, atol=1e-3)

    def test_a_fully_transparent_picture_becomes_grey(self):
        padded = images.pad_colours(np.zeros((9, 5, 4), np.float32))
        assert (padded[..., :3] == 0.5).all()
        assert (padded[..., 3] == 0).all()


class TestTrim:
    @given(pictures(4))
    def test_pasting_back_restores_everything_visible(self, rgba):
        trimmed, (x, y) = images.trim(rgba)
        restored = np.zeros_like(rgba)
        restored[y : y + trimmed.shape[0], x : x + trimmed.shape[1]] = trimmed
        assert np.array_equal(images.premultiply(restored), images.premultiply(rgba))

    @given(pictures(4))
    def test_every_edge_shows_something(self, rgba):
        alpha = images.trim(rgba)[0][..., 3]
        if rgba[..., 3].any():
            assert all(edge.any() for edge in (alpha[0], alpha[-1], alpha[:, 0], alpha[:, -1]))

    def test_a_fully_transparent_picture_comes_back_whole(self):
        trimmed, corner = images.trim(np.zeros((3, 4, 4), np.float32))
        assert trimmed.shape == (3, 4, 4)
        assert corner == (0, 0)

    def test_takes_pictures_in_0_to_255(self):
        rgba_u8 = np.zeros((5, 6, 4), np.uint8)
        rgba_u8[2, 3] = 9
        trimmed, corner = images.trim(rgba_u8)
        assert trimmed.tolist() == [[[9, 9, 9, 9]]]
        assert trimmed.dtype == np.uint8
        assert corner == (3, 2)


class TestConversions:
    @given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=3, max_dims=3)))
    def test_u8_there_and_back(self, image_u8):
        assert np.array_equal(images.to_u8(images.from_u8(image_u8)), image_u8)

    @given(st.floats(-2, 3, width=32))
    def test_to_u8_rounds_and_clips(self, value):
        level = int(images.to_u8(np.full((1, 1, 3), value))[0, 0, 0])
        assert abs(level - min(max(value, 0), 1) * 255) <= 0.5001

    def test_almost_1_is_255(self):
        assert (images.to_u8(np.full((1, 1, 4), 0.9990)) == 255).all()

    def test_matte_is_alpha_as_a_picture(self):
        matte = images.matte(disc())
        assert matte.shape == (32, 32, 3)
        assert all(np.array_equal(matte[..., i], disc()[..., 3]) for i in range(3))

    def test_checkerboard(self):
        board = images.checkerboard(200, 130)
        assert board.shape == (130, 200, 3)
        assert board.dtype == np.float32
        np.testing.assert_allclose(
            board[[0, 63, 0, 64], [0, 63, 64, 64], 0], [0.45, 0.45, 0.55, 0.45]
        )
        assert images.checkerboard(2, 1, cell=1, greys=(0, 1))[0, :, 0].tolist() == [0, 1]


class TestAsRgba:
    @pytest.mark.parametrize("shape", [(2, 3), (2, 3, 1), (2, 3, 3), (2, 3, 4)])
    @pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32, np.float64])
    def test_takes_grey_rgb_and_rgba(self, shape, dtype):
        rgba = images.as_rgba(np.ones(shape, dtype) * dtype(255 if dtype is np.uint8 else 1))
        assert rgba.shape == (2, 3, 4)
        assert rgba.dtype == np.float32
        assert (rgba == 1).all()

    @given(pictures(4))
    def test_rgba_stays(self, rgba):
        assert np.array_equal(images.as_rgba(rgba), rgba)

    @pytest.mark.parametrize(
        "wrong",
        [
            None,
            "picture.png",
            [[1.0]],
            np.zeros(3, np.float32),
            np.zeros((2, 2, 2), np.float32),
            np.zeros((2, 2, 5), np.uint8),
            np.zeros((1, 2, 2, 3), np.float32),
            np.zeros((0, 2, 3), np.float32),
            np.zeros((2, 2, 3), np.int32),
            np.zeros((2, 2, 3), bool),
            np.full((2, 2, 3), 128.0),
            np.full((2, 2, 3), -0.5),
            np.full((2, 2, 3), np.nan),
        ],
        ids=str,
    )
    def test_refuses_anything_else(self, wrong):
        with pytest.raises(SettingsError, match="Expected a grey, RGB or RGBA image") as caught:
            images.as_rgba(wrong, field="fg_image")
        assert caught.value.hint
        assert caught.value.field == "fg_image"

    def test_forgives_the_rounding_of_floats(self):
        assert images.as_rgba(np.full((1, 1, 3), 1.0001)).max() == 1


@pytest.mark.parametrize(
    "function",
    [
        images.premultiply,
        images.unpremultiply,
        images.flatten,
        images.pad_colours,
        images.trim,
        images.matte,
        images.to_u8,
        images.as_rgba,
        lambda p: images.composite(p, p),
        lambda p: images.fit(p, 8, 8, ResizeMode.CROP),
    ],
)
def test_the_input_is_left_alone(function):
    picture = disc()
    picture.setflags(write=False)
    function(picture)
    assert np.array_equal(picture, disc())
