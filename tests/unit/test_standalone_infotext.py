"""Infotext that the WebUI reads: its own way to take one apart gives back what was put in."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib_layerdiffuse.methods import METHODS
from lib_layerdiffuse.settings.infotext import from_infotext
from lib_layerdiffuse.settings.layer_settings import LayerSettings
from lib_layerdiffuse.standalone.generation import Generation
from lib_layerdiffuse.standalone.generation_parameters import split_sampler, webui_infotext

PAIR = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')
TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Zl", "Zp", "Cs"])).map(
    str.strip
)


def parse(infotext: str) -> tuple[str, str, dict[str, str]]:
    """Returns prompt, negative prompt and values, found as the WebUI finds them."""
    *lines, last = infotext.strip().split("\n")
    values = {k: json.loads(v) if v[:1] == '"' else v for k, v in PAIR.findall(last)}
    text = "\n".join(lines)
    prompt, _, negative = text.partition("Negative prompt: ")
    return prompt.strip(), negative.strip(), values


def job(**more: object) -> Generation:
    settings = LayerSettings.from_args([{"method": "joint_sd15"} | more.pop("settings", {})])
    return Generation(settings, **({"prompt": "an apple, high quality"} | more))


def test_it_reads_as_the_originals_do():
    settings = {"method": "fg_attn_sdxl", "ending_step": 0.5}
    text = webui_infotext(
        job(settings=settings, negative_prompt="bad, ugly", seed=7, cfg=5.5),
        seed=9,
        model="juggernaut",
        model_hash="1fe6c7ec54",
    )
    assert text == (
        "an apple, high quality\n"
        "Negative prompt: bad, ugly\n"
        "Steps: 20, Sampler: DPM++ 2M SDE, Schedule type: Karras, CFG scale: 5.5, Seed: 9, "
        "Size: 1024x1024, Model hash: 1fe6c7ec54, Model: juggernaut, RNG: CPU, "
        "layerdiffusion_enabled: True, "
        "layerdiffusion_method: (SDXL) Only Generate Transparent Image (Attention Injection), "
        "layerdiffusion_weight: 1, layerdiffusion_ending_step: 0.5, "
        "layerdiffusion_fg_image: False, layerdiffusion_bg_image: False, "
        "layerdiffusion_blend_image: False, layerdiffusion_resize_mode: Crop and Resize"
    )


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.id)
def test_the_panel_gets_every_method_back(method):
    settings = {"method": method.id, "weight": 0.75, "fg_image": np.zeros((8, 8, 4))}
    _, _, values = parse(webui_infotext(job(settings=settings), seed=1, model="m"))
    found = from_infotext(values)
    assert (found["enabled"], found["method"], found["strength"]) == (True, method, 0.75)
    assert values["layerdiffusion_fg_image"] == str("fg" in [x.value for x in method.inputs])


@given(TEXTS, TEXTS)
def test_layer_prompts_survive_whatever_is_in_them(fg, bg):
    settings = {"fg_additional_prompt": fg, "bg_negative_prompt": bg}
    _, _, values = parse(webui_infotext(job(settings=settings), seed=1, model="a: b, c"))
    assert values.get("layerdiffusion_fg_additional_prompt", "") == fg
    assert values.get("layerdiffusion_bg_negative_prompt", "") == bg
    assert values["Model"] == "a: b, c"
    assert values["Seed"] == "1"


def test_prompts_of_several_lines_and_none():
    text = webui_infotext(job(prompt="one\ntwo", negative_prompt="no\nnot"), seed=1, model="m")
    assert parse(text)[:2] == ("one\ntwo", "no\nnot")
    text = webui_infotext(job(prompt="", negative_prompt=""), seed=1, model="m")
    assert text.startswith("Steps: 20, ")


def test_the_users_loras_are_tags():
    text = webui_infotext(job(), seed=1, model="m", loras=[("detail", 0.5), ("ink", 1.0)])
    assert parse(text)[0] == "an apple, high quality <lora:detail:0.5> <lora:ink:1>"


def test_img2img_tells_its_strength_and_others_do_not():
    plain = webui_infotext(job(), seed=1, model="m")
    assert "Denoising" not in plain
    drawn_over = job(init=np.zeros((8, 8, 4), np.float32), denoise=0.25)
    assert "Denoising strength: 0.25, " in webui_infotext(drawn_over, seed=1, model="m")


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("DPM++ 2M SDE Karras", ("DPM++ 2M SDE", "Karras")),
        ("Euler a", ("Euler a", None)),
        ("Karras", ("Karras", None)),
        ("DPM++ 3M SDE Exponential", ("DPM++ 3M SDE", "Exponential")),
    ],
)
def test_the_schedule_has_a_key_of_its_own(name, parts):
    assert split_sampler(name) == parts
    one = replace(job(), sampler=name)
    values = parse(webui_infotext(one, seed=1, model="m"))[2]
    assert (values["Sampler"], values.get("Schedule type")) == parts


def test_the_webui_does_not_choose_another_schedule():
    def schedule(sampler: str) -> str | None:
        text = webui_infotext(replace(job(), sampler=sampler), seed=1, model="m")
        return parse(text)[2].get("Schedule type")

    assert schedule("DPM++ 2M") == schedule("DPM2 a") == "Uniform"
    assert schedule("Euler") is schedule("UniPC") is None


def test_every_sampler_of_the_host_keeps_its_name():
    from lib_layerdiffuse.hosts.diffusers import SAMPLERS

    for name in SAMPLERS:
        sampler, schedule = split_sampler(name)
        assert " ".join(part for part in (sampler, schedule) if part) == name
