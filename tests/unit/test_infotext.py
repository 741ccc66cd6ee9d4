from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib_layerdiffuse.imaging.images import ResizeMode
from lib_layerdiffuse.imaging.masks import MaskSource
from lib_layerdiffuse.methods import METHODS, find_method
from lib_layerdiffuse.settings.infotext import from_infotext, to_infotext
from lib_layerdiffuse.settings.layer_settings import LayerSettings

ORIGINAL = {
    "Steps": "20",
    "Sampler": "DPM++ 2M SDE Karras",
    "Size": "1024x1024",
    "layerdiffusion_enabled": "True",
    "layerdiffusion_method": "Only Generate Transparent Image (Attention Injection)",
    "layerdiffusion_weight": "1",
    "layerdiffusion_ending_step": "1",
    "layerdiffusion_fg_image": "True",
    "layerdiffusion_bg_image": "False",
    "layerdiffusion_blend_image": "False",
    "layerdiffusion_resize_mode": "Crop and Resize",
    "Version": "f0.0.17v1.8.0rc-latest-269-gef35383b",
}
ORIGINAL_JOINT = {
    "layerdiffusion_enabled": "True",
    "layerdiffusion_method": "(SD1.5) Generate Everything Together (need batch size 3)",
    "layerdiffusion_weight": "0.75",
    "layerdiffusion_ending_step": "0.5",
    "layerdiffusion_resize_mode": "Resize and Fill",
    "layerdiffusion_fg_additional_prompt": "a man, in red",
    "layerdiffusion_bg_additional_prompt": "a chair",
    "layerdiffusion_blend_additional_prompt": "a man on a chair",
}
LABELS = [
    "(SD1.5) From Background to Foreground",
    "(SD1.5) From Background to Foreground (need batch size 2)",
    "(SD1.5) From Foreground to Background",
    "(SD1.5) From Foreground to Background (need batch size 2)",
    "(SD1.5) Generate Everything Together",
    "(SD1.5) Generate Everything Together (need batch size 3)",
    "(SD1.5) Only Generate Transparent Image (Attention Injection)",
    "(SDXL) From Background and Blending to Foreground",
    "(SDXL) From Background to Blending",
    "(SDXL) From Foreground and Blending to Background",
    "(SDXL) From Foreground to Blending",
    "(SDXL) Only Generate Transparent Image (Attention Injection)",
    "(SDXL) Only Generate Transparent Image (Conv Injection)",
    "From Background and Blending to Foreground",
    "From Background to Blending",
    "From Foreground and Blending to Background",
    "From Foreground to Blending",
    "Only Generate Transparent Image (Attention Injection)",
    "Only Generate Transparent Image (Conv Injection)",
]
ODD_TEXTS = ['a, b: "c"', "two\nlines", "⛵ {x|y}, <lora:a:1>", "False", "0", "\\"]


UNSAID = {
    f"{layer}_{kind}": ""
    for layer in ("fg", "bg", "blended")
    for kind in ("prompt", "negative_prompt")
} | {name: False for name in LayerSettings.__dataclass_fields__ if name.startswith("show_")}
UNSAID |= {"chain": False, "mask_source": MaskSource.TAB}


def pasted(settings: LayerSettings) -> dict:
    return from_infotext(to_infotext(settings))


def test_an_infotext_of_the_original_is_read():
    found = from_infotext(ORIGINAL)
    assert found == {
        "enabled": True,
        "method": find_method("fg_attn_sdxl"),
        "strength": 1.0,
        "stop_at": 1.0,
        "resize_mode": ResizeMode.CROP,
        **UNSAID,
    }


def test_texts_and_outputs_of_an_earlier_paste_are_cleared():
    assert from_infotext(ORIGINAL).items() >= UNSAID.items()


def test_an_infotext_of_the_original_with_layer_prompts_is_read():
    found = from_infotext(ORIGINAL_JOINT)
    assert (found["method"].id, found["strength"], found["stop_at"]) == ("joint_sd15", 0.75, 0.5)
    assert found["resize_mode"] is ResizeMode.FILL
    prompts = [found[f"{layer}_prompt"] for layer in ("fg", "bg", "blended")]
    assert prompts == ["a man, in red", "a chair", "a man on a chair"]


def test_the_originals_keys_are_written():
    written = to_infotext(LayerSettings(enabled=True, blended_prompt="x"))
    shared = {k: v for k, v in ORIGINAL.items() if k.startswith("layerdiffusion_")}
    assert written.keys() == shared.keys() | {"layerdiffusion_blend_additional_prompt"}
    assert written["layerdiffusion_weight"] == "1"
    assert written["layerdiffusion_resize_mode"] == "Crop and Resize"


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.id)
def test_every_label_ever_written_is_read(method):
    for label in method.aliases:
        found = from_infotext({"layerdiffusion_method": label})["method"]
        same_label = {m.id for m in METHODS if label in m.aliases}
        assert found.id in same_label
        assert found is method or len(same_label) > 1
    assert pasted(LayerSettings(method=method))["method"] is method


def test_settings_round_trip():
    settings = LayerSettings(
        enabled=True,
        method=find_method("bg_to_fg_sd15"),
        strength=0.123,
        stop_at=0.25,
        resize_mode=ResizeMode.STRETCH,
        fg_prompt="fg",
        bg_prompt="bg",
        blended_prompt="blended",
        fg_negative_prompt="no fg",
        bg_negative_prompt="no bg",
        blended_negative_prompt="no blended",
        show_matte=True,
    )
    found = pasted(settings)
    for field in fields(settings):
        if field.metadata["infotext"] and not field.metadata.get("image"):
            assert found.pop(field.name) == getattr(settings, field.name), field.name
    assert not found


@pytest.mark.parametrize("label", LABELS)
def test_every_label_in_the_originals_history_is_read(label):
    method = from_infotext({"layerdiffusion_method": label})["method"]
    assert method.label.removeprefix("(SDXL) ").startswith(
        label.removeprefix("(SDXL) ").partition(" (need")[0]
    )


@pytest.mark.parametrize("text", ODD_TEXTS)
def test_odd_texts_stay_values(text):
    written = to_infotext(LayerSettings(fg_prompt=text))
    assert written["layerdiffusion_fg_additional_prompt"] == text
    assert from_infotext(written)["fg_prompt"] == text


@given(st.text().map(str.strip), st.floats(0, 2), st.floats(0, 1))
def test_any_text_and_number_round_trips(text, strength, stop_at):
    found = pasted(LayerSettings(bg_negative_prompt=text, strength=strength, stop_at=stop_at))
    assert found.get("bg_negative_prompt", "") == text
    assert (found["strength"], found["stop_at"]) == (strength, stop_at)


def test_every_written_value_is_a_text_with_something_in_it():
    picture = np.zeros((2, 2, 4), np.float32)
    written = to_infotext(LayerSettings(enabled=True, fg_image=picture))
    assert all(isinstance(v, str) and v for v in written.values())
    assert written["layerdiffusion_fg_image"] == "True"
    assert written["layerdiffusion_bg_image"] == "False"


def test_pictures_are_not_read_back():
    assert "fg_image" not in from_infotext({"layerdiffusion_fg_image": "True"})


@pytest.mark.parametrize("params", [{}, {"Steps": "20"}])
def test_infotexts_of_other_jobs_switch_off_and_change_nothing_else(params):
    assert from_infotext(params) == {"enabled": False}


def test_a_switched_off_infotext_switches_off():
    assert from_infotext({"layerdiffusion_enabled": "False"})["enabled"] is False


@pytest.mark.parametrize(
    ("key", "value", "field"),
    [
        ("weight", "heavy", "strength"),
        ("weight", "5", "strength"),
        ("weight", "nan", "strength"),
        ("ending_step", "-1", "stop_at"),
        ("method", "Some New Method", "method"),
        ("resize_mode", "Cut", "resize_mode"),
    ],
)
def test_unreadable_values_are_left_out(key, value, field):
    wanted = from_infotext(ORIGINAL_JOINT)
    del wanted[field]
    assert from_infotext(ORIGINAL_JOINT | {f"layerdiffusion_{key}": value}) == wanted


def test_an_unreadable_switch_is_off():
    params = ORIGINAL_JOINT | {"layerdiffusion_enabled": "maybe"}
    assert from_infotext(params)["enabled"] is False


def test_an_older_infotext_says_otherwise_where_the_mask_is_from():
    params = ORIGINAL_JOINT | {"layerdiffusion_mask_source": "As the tab says"}
    assert from_infotext(params)["mask_source"] is MaskSource.TAB
    params["layerdiffusion_mask_source"] = "Visible part"
    assert from_infotext(params)["mask_source"] is MaskSource.VISIBLE
