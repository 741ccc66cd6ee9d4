from dataclasses import fields

import numpy as np
import pytest

from lib_layerdiffuse.errors import MissingLayerError, SettingsError
from lib_layerdiffuse.imaging.images import ResizeMode
from lib_layerdiffuse.imaging.masks import MaskSource
from lib_layerdiffuse.methods import Layer, find_method
from lib_layerdiffuse.settings.layer_settings import LayerSettings

ORIGINAL_ORDER = [
    True,
    "(SD1.5) Generate Everything Together (need batch size 3)",
    0.5,
    0.75,
    "a",
    "b",
    "c",
    "Resize and Fill",
    True,
    "a man",
    "a chair",
    "a man on a chair",
]


def test_the_originals_twelve_values_keep_their_places():
    s = LayerSettings.from_args(ORIGINAL_ORDER)
    assert (s.enabled, s.method.id, s.strength, s.stop_at) == (True, "joint_sd15", 0.5, 0.75)
    assert (s.fg_image, s.bg_image, s.blended_image) == (None, None, None)  # It uses none.
    assert s.resize_mode is ResizeMode.FILL
    assert [s.prompt(layer) for layer in Layer] == ["a man", "a chair", "a man on a chair"]
    assert [s.negative_prompt(layer) for layer in Layer] == ["", "", ""]


def test_none_and_missing_values_are_the_defaults():
    default = LayerSettings()
    for args in ([], [None] * 12, [False], (None, None, 1)):
        s = LayerSettings.from_args(args)
        assert (s.method, s.strength, s.prompt(Layer.FG)) == (default.method, 1.0, "")
        assert s.image(Layer.FG) is None


def test_a_dict_enables_and_takes_both_kinds_of_names():
    s = LayerSettings.from_args(
        [{"method": "joint_sd15", "weight": "0.5", "stop_at": 0.2, "blend_negative_prompt": " x "}]
    )
    assert s.enabled
    assert (s.strength, s.stop_at, s.negative_prompt(Layer.BLENDED)) == (0.5, 0.2, "x")
    assert not LayerSettings.from_args([{"enabled": False}]).enabled


def test_a_dict_overrides_the_values_beside_it():
    s = LayerSettings.from_args([True, "joint_sd15", {"method": "fg_attn_sd15"}, 0.25])
    assert (s.method.id, s.strength, s.stop_at) == ("fg_attn_sd15", 1.0, 0.25)


@pytest.mark.parametrize("place", range(12))
def test_a_dict_counts_at_any_place(place):
    s = LayerSettings.from_args([None] * place + [{"method": "joint_sd15"}])
    assert s.enabled
    assert s.method.id == "joint_sd15"


def test_an_empty_dict_is_one_of_settings():
    assert LayerSettings.from_args([{}]).enabled


def test_every_refusal_has_a_hint():
    for args in ([{"resize_mode": "x"}], [None] * 40, [{"x": 1}], [{"weight": 9}], [True, "x"]):
        with pytest.raises(SettingsError) as caught:
            LayerSettings.from_args(args)
        assert caught.value.hint


def test_pictures_are_read_by_the_front_end():
    seen = np.zeros((2, 2, 4))
    s = LayerSettings.from_args(
        [{"method": "bg_blended_to_fg_sdxl", "bg_image": "…", "blend_image": "…", "fg_image": "…"}],
        read_image=lambda value: seen,
    )
    assert s.image(Layer.BG) is seen
    assert s.image(Layer.BLENDED) is seen
    assert s.image(Layer.FG) is None


def test_an_error_of_a_picture_names_its_field():
    def refuse(value):
        raise SettingsError("no")

    with pytest.raises(SettingsError) as caught:
        LayerSettings.from_args(
            [{"method": "bg_blended_to_fg_sdxl", "blend_image": "…"}], read_image=refuse
        )
    assert caught.value.field == "blended_image"


@pytest.mark.parametrize(
    ("args", "field", "words"),
    [
        ([{"wieght": 1}], "wieght", r"no setting called wieght\. Did you mean weight\?"),
        ([{"qqqq": 1}], "qqqq", "ending_step"),
        (
            [{"weight": 2.01}],
            "strength",
            r"Weight must be between 0 and 2, but is 2\.01\. Choose a value",
        ),
        ([{"weight": float("nan")}], "strength", "Weight must be .* but is nan"),
        ([{"ending_step": "soon"}], "stop_at", "Stop at must be between 0 and 1, but is 'soon'"),
        ([{"resize_mode": "Cut"}], "resize_mode", "no resize mode called Cut.*Crop and Resize"),
        ([{"enabled": "maybe"}], "enabled", "Enabled must be true or false, but is 'maybe'"),
        ([True, "nonsense"], "method", "joint_sd15"),
        ([True, None, 10**400], "strength", "between 0 and 2, but is 1000"),
        ([True, None, float("inf")], "strength", "between 0 and 2, but is inf"),
        ([True, *[None] * 8, ["a man"]], "fg_prompt", "Foreground prompt must be text, but is"),
        (
            [True, *[None] * 8, {"image": "a"}],
            "fg_prompt",
            "Foreground prompt must be text, but is",
        ),
        ([{"bg_prompt": "half \ud83d"}], "bg_prompt", "Background prompt must be whole text"),
        ([True] + [None] * 40, None, "21 settings, but 41 values"),
    ],
)
def test_bad_input_is_refused_by_name(args, field, words):
    with pytest.raises(SettingsError, match=words) as caught:
        LayerSettings.from_args(args)
    assert caught.value.field == field


@pytest.mark.parametrize("place", [0, 1, 2, 3, 7, 8, 9, 10, 11])
def test_a_long_value_is_not_repeated_whole(place):
    values = [True, "bg_blended_to_fg_sdxl", *[None] * 10]
    values[place] = ["x"] * 10_000
    with pytest.raises(SettingsError) as caught:
        LayerSettings.from_args(values)
    assert len(str(caught.value)) < 400


def test_a_missing_picture_is_named():
    method = find_method("fg_blended_to_bg_sdxl")
    s = LayerSettings(method=method, fg_image=np.zeros((1, 1, 4)))
    with pytest.raises(MissingLayerError, match=r"a blended image\. Put one in the B") as caught:
        s.check_images()
    assert caught.value.field == "blended_image"
    LayerSettings(method=find_method("fg_attn_sdxl")).check_images()


@pytest.mark.parametrize(("strength", "stop_at", "acts"), [(1, 1, 1), (0, 1, 0), (1, 0, 0)])
def test_whether_it_acts(strength, stop_at, acts):
    assert LayerSettings(strength=strength, stop_at=stop_at).acts == bool(acts)


class TestOldSpellings:
    """What the page called things before, as requests and infotexts still have it."""

    @pytest.mark.parametrize("strict", [False, True])
    def test_of_the_mask(self, strict):
        given = {"mask_source": "As the tab says"}
        assert LayerSettings.from_args([given], strict=strict).mask_source is MaskSource.TAB

    def test_of_the_mask_by_place(self):
        values = [True, *[None] * 19, "As the tab says"]
        assert LayerSettings.from_args(values).mask_source is MaskSource.TAB

    def test_they_are_not_offered(self):
        with pytest.raises(SettingsError) as caught:
            LayerSettings.from_args([{"mask_source": "?"}])
        assert "Inpaint area: from the tab, Visible part, Transparent part" in caught.value.hint


def test_the_labels_on_the_page():
    labels = {f.name: f.metadata["label"] for f in fields(LayerSettings)}
    assert labels["chain"] == "Also extract the other layer"
    assert labels["show_raw"] == "RGB before alpha"
    assert MaskSource.TAB.value == "Inpaint area: from the tab"


DEEP = 5000


@pytest.mark.parametrize("kind", [list, dict])
@pytest.mark.parametrize("name", ["weight", "method", "fg_prompt", "enabled", "resize_mode", "odd"])
def test_values_nested_by_the_thousand_are_refused_in_words(kind, name):
    value: object = 1
    for _ in range(DEEP):
        value = [value] if kind is list else {"a": value}
    with pytest.raises(SettingsError) as caught:
        LayerSettings.from_args([{name: value}])
    assert len(str(caught.value)) < 1000
