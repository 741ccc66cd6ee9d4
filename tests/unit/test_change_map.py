"""Change maps: what the user chooses and what comes of it."""

from __future__ import annotations

import numpy as np
import pytest

from lib_layerdiffuse.errors import MissingLayerError, SettingsError
from lib_layerdiffuse.imaging.masks import feather
from lib_layerdiffuse.settings.change_map import ChangeMap, MapSource


def read(value):
    return None if value is None else np.asarray(value, np.float32)


def init():
    rgba = np.random.default_rng(1).random((12, 16, 4), dtype=np.float32)
    rgba[:, :8, 3] = 0
    return rgba


MASK = np.linspace(0, 1, 192, dtype=np.float32).reshape(12, 16)


class TestArguments:
    @pytest.mark.parametrize(
        "args", [[], [False], [None], ["false", "?", "?"], [{"enabled": False}]]
    )
    def test_off(self, args):
        assert not ChangeMap.from_args(args, read).enabled

    def test_by_place_and_by_name(self):
        picture = np.ones((2, 2, 3), np.float32)
        by_place = ChangeMap.from_args([True, "Picture", 3, picture], read)
        by_name = ChangeMap.from_args(
            [{"source": "Picture", "feather": 3, "picture": picture}], read
        )
        for found in (by_place, by_name):
            assert (found.enabled, found.source, found.feather) == (True, MapSource.PICTURE, 3.0)
            assert np.array_equal(found.picture, picture)
        assert ChangeMap.from_args([True], read).source is MapSource.MASK

    @pytest.mark.parametrize(
        ("given", "field", "words"),
        [
            ({"sorce": "Picture"}, "sorce", "no setting called sorce. Did you mean source?"),
            ({"source": "a cat"}, "source", "no change map called a cat. Choose one of: Inpaint"),
            ({"feather": -1}, "feather", "Feather must be between 0 and 256, but is -1."),
            ({"feather": "much"}, "feather", "but is 'much'. Choose a value in that range."),
            ({"feather": 1e9}, "feather", "Feather must be between 0 and 256"),
            ({"enabled": "maybe"}, "enabled", "true or false"),
        ],
    )
    def test_what_cannot_be_used(self, given, field, words):
        with pytest.raises(SettingsError) as caught:
            ChangeMap.from_args([given], read)
        assert caught.value.field == field
        assert words in str(caught.value)

    def test_text_stands_for_numbers_and_switches(self):
        found = ChangeMap.from_args([{"enabled": "True", "feather": "2.5"}], read)
        assert (found.enabled, found.feather) == (True, 2.5)

    def test_an_image_that_cannot_be_read_is_named(self):
        def refuse(value):
            raise SettingsError("no")

        with pytest.raises(SettingsError) as caught:
            ChangeMap.from_args([{"picture": "x"}], refuse)
        assert caught.value.field == "picture"


class TestMap:
    def test_from_the_picture_itself(self):
        alpha = init()[..., 3]
        assert np.array_equal(ChangeMap(True, MapSource.VISIBLE).of(init(), None), alpha)
        assert np.array_equal(ChangeMap(True, MapSource.TRANSPARENT).of(init(), MASK), 1 - alpha)

    def test_from_the_mask_softened(self):
        found = ChangeMap(True, MapSource.MASK, 2.0).of(init(), MASK)
        assert np.array_equal(found, feather(MASK, 2.0))

    def test_from_another_picture_by_its_brightness_on_black(self):
        picture = np.zeros((12, 16, 4), np.float32)
        picture[..., 3], picture[..., 1], picture[:6, :, 3] = 1, 1, 0
        found = ChangeMap(True, MapSource.PICTURE, 0, picture).of(init(), None)
        np.testing.assert_allclose(found[6:], 0.587, atol=1e-6)
        assert not found[:6].any()

    def test_another_picture_is_stretched(self):
        picture = np.full((3, 50, 3), 0.25, np.float32)
        found = ChangeMap(True, MapSource.PICTURE, 0, picture).of(init(), None)
        np.testing.assert_allclose(found, np.full((12, 16), 0.25), atol=1e-6)

    @pytest.mark.parametrize("source", [MapSource.MASK, MapSource.PICTURE])
    def test_what_is_missing(self, source):
        with pytest.raises(MissingLayerError):
            ChangeMap(True, source).of(init(), None)

    def test_a_black_one(self):
        with pytest.raises(SettingsError, match="black"):
            ChangeMap(True, MapSource.MASK).of(init(), np.zeros_like(MASK))
        black = np.zeros((4, 4, 3), np.float32)
        with pytest.raises(SettingsError, match="black"):
            ChangeMap(True, MapSource.PICTURE, 0, black).of(init(), None)
