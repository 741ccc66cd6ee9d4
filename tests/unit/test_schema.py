"""The schema of the settings, requests that are read as it says, and the table of methods."""

from __future__ import annotations

import json
from dataclasses import fields

import pytest

from lib_layerdiffuse.errors import SettingsError
from lib_layerdiffuse.methods import DECODERS, METHODS, Arch, find_method
from lib_layerdiffuse.settings.layer_settings import LayerSettings
from lib_layerdiffuse.settings.schema import methods_table, settings_schema
from lib_layerdiffuse.weights.store import WeightStore

PROPERTIES = settings_schema()["properties"]


def check(given):
    return LayerSettings.from_args([given], strict=True)


def test_every_setting_is_in_it_with_its_default():
    assert json.loads(json.dumps(settings_schema())) == settings_schema()
    assert list(PROPERTIES) == [f.metadata["api"] for f in fields(LayerSettings)]
    defaults = {name: p["default"] for name, p in PROPERTIES.items()}
    made, plain = check(defaults), LayerSettings(enabled=True)
    for field in fields(LayerSettings):
        assert getattr(made, field.name) == getattr(plain, field.name), field.name


def test_every_setting_says_what_it_is():
    for name, p in PROPERTIES.items():
        assert p["title"], name
        assert p["description"].endswith("."), name
        assert p["type"][1] == "null", name


def test_methods_go_by_id_and_by_every_label():
    assert [m.id for m in METHODS if m.id not in PROPERTIES["method"]["enum"]] == []
    for name in PROPERTIES["method"]["enum"]:
        if name is not None:
            assert find_method(name) in METHODS


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"method": "joint_sd15", "weight": 2, "ending_step": 0.5, "enabled": False},
        {"method": "(SD1.5) Generate Everything Together", "resize_mode": "Crop and Resize"},
        {"weight": None, "method": None, "fg_image": None},
        {"strength": 1, "stop_at": 0, "bg_prompt": "x", "blended_image": "…"},
        {"fg_image": object()},
    ],
)
def test_what_fits_passes(given):
    check(given)


@pytest.mark.parametrize(
    ("given", "field", "words"),
    [
        ({"wieght": 1}, "wieght", "There is no setting called wieght. Did you mean weight?"),
        (
            {"weight": "0.5"},
            "strength",
            "Weight must be a number, but is '0.5'. Send JSON's number",
        ),
        ({"weight": True}, "strength", "a number"),
        ({"weight": 2.5}, "strength", "Weight must be between 0 and 2, but is 2.5. Choose a value"),
        ({"weight": float("nan")}, "strength", "between 0 and 2"),
        ({"ending_step": "1"}, "stop_at", "Stop at (ending_step) must be a number"),
        ({"stop_at": -1}, "stop_at", "Stop at must be between 0 and 1"),
        ({"enabled": 1}, "enabled", "Enabled must be true or false, but is 1. Send JSON's boolean"),
        ({"show_matte": "yes"}, "show_matte", "Matte (show_matte) must be true or false"),
        ({"fg_additional_prompt": ["a"]}, "fg_prompt", "(fg_additional_prompt) must be text"),
        ({"bg_image": {"image": "x"}}, "bg_image", "Send the image as base64"),
        (
            {"method": "joint_sd16"},
            "method",
            "no method called joint_sd16. Did you mean joint_sd15",
        ),
        ({"method": "?"}, "method", "Choose one of: fg_attn_sd15, fg_to_bg_sd15"),
        ({"method": " joint_sd15 "}, "method", "Did you mean joint_sd15?"),
        ({"resize_mode": "crop and resize"}, "resize_mode", "Did you mean Crop and Resize?"),
        ({"mask_source": "tab"}, "mask_source", "There is no part to redraw called tab."),
    ],
)
def test_what_does_not_fit_is_refused_in_words(given, field, words):
    with pytest.raises(SettingsError) as caught:
        check(given)
    assert words in str(caught.value)
    assert caught.value.field == field
    assert caught.value.hint


@pytest.mark.parametrize("name", [name for name, p in PROPERTIES.items() if "enum" in p])
def test_every_spelling_in_the_schema_is_read(name):
    for value in PROPERTIES[name]["enum"]:
        check({name: value})


def test_what_wins_over_a_dict_is_read_as_leniently_as_values_by_place():
    over = {"strength": "0.5", "method": "joint_sd15"}
    made = LayerSettings.from_args([{"weight": 2, "stop_at": 0.25}], strict=True, over=over)
    assert (made.enabled, made.method.id) == (True, "joint_sd15")
    assert (made.strength, made.stop_at) == (0.5, 0.25)
    assert LayerSettings.from_args([False, None, 2], over={"stop_at": "1"}).enabled


@pytest.mark.parametrize(
    "given", [{"method": "x" * 10_000}, {"weight": 10**400}, {"y" * 10_000: 1}]
)
def test_a_long_value_is_not_repeated_whole(given):
    with pytest.raises(SettingsError) as caught:
        check(given)
    assert len(caught.value.message) < 200
    assert len(caught.value.field) < 200


def test_the_table_tells_what_is_on_disk(tmp_path):
    store = WeightStore(tmp_path, offline=True)
    decoder = DECODERS[Arch.SD15]
    (tmp_path / decoder.filename).write_bytes(b"x")
    rows = {row["id"]: row for row in methods_table(store)}
    assert list(rows) == [m.id for m in METHODS]
    joint = rows["joint_sd15"]
    assert (joint["inputs"], joint["outputs"]) == ([], ["fg", "bg", "blended"])
    assert joint["weights"]["file"] == "layer_sd15_joint.safetensors"
    assert (joint["weights"]["present"], joint["weights"]["state"]) == (False, "missing")
    assert joint["weights"]["size"] == 554_404_208
    assert (joint["decoder"]["state"], joint["decoder"]["size"]) == ("corrupt", 1)
    assert rows["fg_to_blended_sdxl"]["decoder"] is None
    two = rows["bg_blended_to_fg_sdxl"]
    assert two["input_names"] == ["bg_image", "blend_image"]
    assert two["arch"] == "SDXL"
    json.dumps(list(rows.values()))
