"""Infotexts pasted in the page: from the prompt, from PNG Info, and those of jobs done before."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from original_infotexts import OriginalInfotext, original_infotexts
from pictures import lake_scene
from PIL import Image, PngImagePlugin

from lib_layerdiffuse.methods import Layer, find_method

if TYPE_CHECKING:
    from webui_page import WebuiPage

ORIGINALS = original_infotexts()
JOINT = find_method("joint_sd15")
OTHERS = "a boat\nSteps: 20, Sampler: Euler, Seed: 1, Size: 512x512"
PROMPTS = [f"{layer.value}{kind}_prompt" for kind in ("", "_negative") for layer in Layer]
ODD_TEXTS = [
    'a, b: "c"; d',
    "two\nlines",
    "⛵ {x|y} (z:1.2)",
    "512x512",
    '"all of it"',
    "layerdiffusion_blend_negative_prompt",
]


def spoil(page: WebuiPage) -> None:
    """Sets what every one of the original's texts sets otherwise."""
    page.open_panel()
    page.choose_method(find_method("fg_blended_to_bg_sdxl").label)
    page.choose_radio("resize_mode", "Just Resize")
    page.choose_method(JOINT.label)
    page.set_slider("strength", 0.3)
    page.set_slider("stop_at", 0.2)
    for name in PROMPTS:
        page.set_text(name, "spoilt")


def check(page: WebuiPage, wanted: OriginalInfotext) -> None:
    """Checks that the panel shows what one of the original's texts says, and nothing more."""
    method = find_method(wanted.method)
    assert page.enabled()
    assert page.method() == method.label
    assert (page.number("strength"), page.number("stop_at")) == (1.0, wanted.stop_at)
    assert page.radio("resize_mode") == "Crop and Resize"
    prompts = dict(zip(PROMPTS, (*wanted.prompts, "", "", ""), strict=True))
    shown = set(page.visible_inputs())
    assert {name: page.text(name) for name in PROMPTS} == prompts
    assert shown & set(PROMPTS) == {n for n in PROMPTS if _layer(n) in method.layer_prompts}
    assert shown & {f"{layer.value}_image" for layer in Layer} == {
        f"{layer.value}_image" for layer in method.inputs
    }
    assert page.prompt() == wanted.text.split("\n")[0]


def _layer(name: str) -> Layer:
    return Layer(name.partition("_")[0])


def picture_with(text: str, folder: Path) -> Path:
    """Writes an image that carries an infotext."""
    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", text)
    path = folder / "made.png"
    Image.fromarray(lake_scene(64)).save(path, pnginfo=info)
    return path


@pytest.mark.parametrize("wanted", ORIGINALS, ids=range(1, 22))
def test_each_of_the_originals_fills_the_panel(
    shared_page: WebuiPage, wanted: OriginalInfotext
) -> None:
    spoil(shared_page)
    shared_page.paste(wanted.text)
    check(shared_page, wanted)


@pytest.mark.parametrize("number", [6, 10, 15, 21])
def test_in_img2img_too(shared_page: WebuiPage, number: int) -> None:
    shared_page.open_tab("img2img")
    try:
        spoil(shared_page)
        shared_page.paste(ORIGINALS[number - 1].text)
        check(shared_page, ORIGINALS[number - 1])
    finally:
        shared_page.open_tab("txt2img")


@pytest.mark.parametrize(("number", "tab"), [(12, "txt2img"), (21, "img2img")])
def test_sent_from_png_info(page: WebuiPage, tmp_path: Path, number: int, tab: str) -> None:
    wanted = ORIGINALS[number - 1]
    shown = page.read_png_info(picture_with(wanted.text, tmp_path))
    assert "layerdiffusion_method" in shown
    page.send_to(tab)
    check(page, wanted)


@pytest.mark.parametrize("tab", ["txt2img", "img2img"])
def test_a_text_without_our_keys_switches_off(shared_page: WebuiPage, tab: str) -> None:
    shared_page.open_tab(tab)
    shared_page.open_panel()
    shared_page.choose_method(JOINT.label)
    shared_page.paste(OTHERS)
    assert not shared_page.enabled()
    assert shared_page.prompt() == "a boat"
    assert shared_page.method() == JOINT.label
    assert not shared_page.component("method").is_visible()
    shared_page.paste(ORIGINALS[0].text)
    assert shared_page.enabled()
    assert shared_page.component("method").is_visible()


def test_odd_texts_come_back_from_a_job(page: WebuiPage) -> None:
    page.small_job(side=64, steps=1)
    page.open_panel()
    page.choose_method(JOINT.label)
    page.set_slider("strength", 0.85)
    page.set_slider("stop_at", 0.625)
    for name, text in zip(PROMPTS, ODD_TEXTS, strict=True):
        page.set_text(name, text)
    page.generate()
    assert len(page.gallery()) >= JOINT.frames, page.notes()
    spoil(page)
    page.paste("")  # Which takes the text of the last job.
    assert page.enabled()
    assert page.method() == JOINT.label
    assert (page.number("strength"), page.number("stop_at")) == (0.85, 0.625)
    assert [page.text(name) for name in PROMPTS] == ODD_TEXTS
