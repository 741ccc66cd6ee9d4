"""The schema of the settings, the check by it, and the table of methods."""

from __future__ import annotations

import json
from dataclasses import fields

import pytest

from lib_layerdiffuse.errors import SettingsError
from lib_layerdiffuse.methods import DECODERS, METHODS, Arch, find_method
from lib_layerdiffuse.settings.layer_settings import LayerSettings
from lib_layerdiffuse.settings.schema import check, methods_table, settings_schema
from lib_layerdiffuse.weights.store import WeightStore

PROPERTIES = settings_schema()["properties"]


def test_every_setting_is_in_it_with_its_default():
    assert json.loads(json.dumps(settings_schema())) == settings_schema()
    assert list(PROPERTIES) == [f.metadata["api"] for f in fields(LayerSettings)]
    defaults = {name: p["default"] for name, p in PROPERTIES.items()}
    check(defaults)
    made, plain = LayerSettings.from_args([defaults]), LayerSettings(enabled=True)
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
        ({"wieght": 1}, "wieght", "Did you mean 'weight'"),
        ({"weight": "0.5"}, "weight", "a number for weight, got '0.5'"),
        ({"weight": True}, "weight", "a number"),
        ({"weight": 2.5}, "weight", "from 0 to 2, got 2.5"),
        ({"weight": float("nan")}, "weight", "from 0 to 2"),
        ({"stop_at": -1}, "stop_at", "stop_at from 0 to 1"),
        ({"enabled": 1}, "enabled", "a boolean"),
        ({"show_matte": "yes"}, "show_matte", "a boolean"),
        ({"fg_additional_prompt": ["a"]}, "fg_additional_prompt", "a string"),
        ({"bg_image": {"image": "x"}}, "bg_image", "a string"),
        ({"method": "joint_sd16"}, "method", "Did you mean 'joint_sd15'"),
        ({"method": "?"}, "method", "Use one of: fg_attn_sd15"),
        ({"resize_mode": "crop and resize"}, "resize_mode", "Did you mean 'Crop and Resize'"),
    ],
)
def test_what_does_not_fit_is_refused_by_the_name_given(given, field, words):
    with pytest.raises(SettingsError, match="Expected") as caught:
        check(given)
    assert words in str(caught.value)
    assert caught.value.field == field
    assert caught.value.hint


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
