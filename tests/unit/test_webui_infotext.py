"""Settings in whole infotexts, written and parsed by the WebUI's rules."""

from __future__ import annotations

from dataclasses import fields

import pytest
import webui_infotext
from hypothesis import given
from hypothesis import strategies as st
from original_infotexts import original_infotexts

from lib_layerdiffuse.imaging.images import ResizeMode
from lib_layerdiffuse.methods import METHODS, Layer, find_method
from lib_layerdiffuse.settings.infotext import (
    for_webui,
    from_infotext,
    images_of,
    infotext_line,
    to_infotext,
)
from lib_layerdiffuse.settings.layer_settings import LayerSettings

FG, BG, BLENDED = Layer
ODD_TEXTS = [
    'a, b: "c"',
    "two\nlines",
    "a\rb",
    "tab\there",
    "nul\0byte",
    "⛵ {x|y}, <lora:a:1>",
    "False",
    "None",
    "0",
    "\\",
    '"',
    '""',
    '"a',
    '"all of it"',
    '"a", "b"',
    "512x512",
    "007x1",
    "Steps: 20, Sampler: Euler",
    "Negative prompt: a\nNegative prompt: b",
    "layerdiffusion_fg_additional_prompt",
    "layerdiffusion_bg_additional_prompt: x, layerdiffusion_weight: 2",
]
CHARACTERS = st.one_of(
    st.characters(exclude_categories=["Cs"]), st.sampled_from('",:\\\n\r\t x19{}aé⛵')
)
PROMPTS = st.one_of(st.text(CHARACTERS), st.sampled_from(ODD_TEXTS))


def through_the_webui(settings: LayerSettings, transport=lambda text: text) -> dict:
    """Returns what a WebUI parses of an infotext that it wrote."""
    ours = for_webui(to_infotext(settings))
    values = {"Steps": 20, "Sampler": "Euler", "Seed": 1, **ours, "Version": "f2.0.1"}
    return webui_infotext.parse(transport(webui_infotext.write("a boat", "bad, ugly", values)))


def through_a_text_field(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "\ufffd").strip()


def prompts_of(found: dict) -> tuple:
    return tuple(found[f"{layer.value}_prompt"] for layer in Layer)


def test_there_are_21_infotexts_of_the_original():
    assert len(original_infotexts()) == 21


@pytest.mark.parametrize("wanted", original_infotexts())
def test_every_infotext_of_the_originals_readme_is_read(wanted):
    params = webui_infotext.parse(wanted.text)
    found = from_infotext(params)
    assert (found["enabled"], found["method"].id) == (True, wanted.method)
    assert (found["strength"], found["stop_at"]) == (1.0, wanted.stop_at)
    assert found["resize_mode"] is ResizeMode.CROP
    assert prompts_of(found) == wanted.prompts
    assert images_of(params) == dict.fromkeys(wanted.pictures)


@pytest.mark.parametrize("text", ODD_TEXTS)
@pytest.mark.parametrize("transport", [str, through_a_text_field])
def test_odd_texts_come_back(text, transport):
    settings = LayerSettings(enabled=True, fg_prompt=text, blended_negative_prompt="z" + text)
    found = from_infotext(through_the_webui(settings, transport))
    assert found["fg_prompt"] == text
    assert found["blended_negative_prompt"] == "z" + text
    assert found["bg_prompt"] == ""


@given(PROMPTS, PROMPTS, st.floats(0, 2), st.floats(0, 1), st.sampled_from(METHODS))
def test_all_settings_come_back(prompt, negative, strength, stop_at, method):
    given = {"fg_prompt": prompt, "bg_negative_prompt": negative, "method": method}
    numbers = {"strength": strength, "stop_at": stop_at}
    switches = {"show_matte": len(prompt) % 2 == 0, "resize_mode": ResizeMode.FILL}
    settings = LayerSettings.from_args([given | numbers | switches])
    found = from_infotext(through_the_webui(settings, through_a_text_field))
    for field in fields(settings):
        if field.metadata["infotext"] and not field.metadata.get("image"):
            assert found[field.name] == getattr(settings, field.name), field.name


@given(PROMPTS)
def test_the_webuis_own_values_are_not_disturbed(prompt):
    settings = LayerSettings.from_args([{"bg_prompt": prompt}])
    params = through_the_webui(settings)
    assert (params["Steps"], params["Version"]) == ("20", "f2.0.1")
    assert (params["Prompt"], params["Negative prompt"]) == ("a boat", "bad, ugly")


def by_the_webui(values: dict) -> str:
    return webui_infotext.join(for_webui(values))


KEYS = st.from_regex(r"[A-Za-z]\w[\w \-/]*\w", fullmatch=True)


@pytest.mark.parametrize("write", [by_the_webui, infotext_line])
@given(st.dictionaries(KEYS, PROMPTS, min_size=1))
def test_what_either_writer_writes_is_what_the_webui_reads(write, values):
    wanted = {
        key: text
        for key, text in values.items()
        if text and not webui_infotext._SIZE.fullmatch(text)  # That it takes for two numbers.
    }
    line = through_a_text_field(write(values | {"Version": "f2.0.1"}))
    found = webui_infotext.split(line)
    assert {key: found.get(key) for key in wanted} == wanted
    assert found["Version"] == "f2.0.1"


@given(st.dictionaries(st.sampled_from(["Model", "Sampler"]), PROMPTS))
def test_both_writers_write_the_same(values):
    values = {key: text for key, text in values.items() if text}
    assert by_the_webui(values) == infotext_line(values)


def test_ordinary_values_are_written_as_the_original_wrote_them():
    values = to_infotext(LayerSettings(enabled=True, fg_prompt='a "big" dog', bg_prompt="a, b"))
    assert for_webui(values) == values


def test_another_jobs_infotext_switches_off():
    params = webui_infotext.parse("a boat\nSteps: 20, Sampler: Euler, Seed: 1, Size: 512x512")
    assert params["Size-2"] == "512"
    assert from_infotext(params) == {"enabled": False}
    assert images_of(params) == {}


def test_a_prompt_that_looks_like_a_size_is_the_only_key():
    params = {f"layerdiffusion_bg_additional_prompt-{n}": str(n) for n in (1, 2)}
    assert from_infotext(params)["bg_prompt"] == "1x2"


METHOD = find_method("fg_blended_to_bg_sdxl")
ON = {"layerdiffusion_enabled": "True", "layerdiffusion_method": METHOD.label}


class TestPictures:
    def test_hashes_come_back_for_the_pictures_in_use(self):
        settings = LayerSettings(enabled=True, method=METHOD)
        written = to_infotext(settings, {FG: "ab" * 32, BLENDED: "cd" * 32})
        assert written["layerdiffusion_blend_image_hash"] == "cd" * 32
        params = webui_infotext.parse(webui_infotext.write("", "", written))
        assert images_of(params) == {FG: "ab" * 32, BLENDED: "cd" * 32}

    def test_pictures_that_the_method_does_not_use_do_not_count(self):
        params = ON | {"layerdiffusion_bg_image": "True", "layerdiffusion_bg_image_hash": "a"}
        assert images_of(params) == {}

    @pytest.mark.parametrize("value", ["False", "None", ""])
    def test_a_picture_that_was_not_given_does_not_count(self, value):
        assert images_of(ON | {"layerdiffusion_fg_image": value}) == {}

    @pytest.mark.parametrize(
        "spoilt", [{"layerdiffusion_enabled": "False"}, {"layerdiffusion_method": "New Method"}]
    )
    def test_a_job_that_cannot_be_read_has_none(self, spoilt):
        params = ON | {"layerdiffusion_fg_image": "True"}
        assert images_of(params) == {FG: None}
        assert images_of(params | spoilt) == {}
