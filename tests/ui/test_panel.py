"""The panel in the browser: what it shows of each method, says of the checkpoint, and takes in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from client import Client
from forge_server import ForgeServer
from model_cache import skip_without
from pictures import glass_ball
from PIL import Image
from random_weights import SD15, SDXL
from safetensors.numpy import save_file
from webuis import Webui

from lib_layerdiffuse.imaging.images import checkerboard, composite, from_u8
from lib_layerdiffuse.methods import METHODS, Arch, LayerMethod, find_method
from lib_layerdiffuse.settings.chains import begins_chain
from lib_layerdiffuse.settings.guide import family_first, outcome, sibling

if TYPE_CHECKING:
    from playwright.sync_api import Locator
    from webui_page import WebuiPage

TABS = ("txt2img", "img2img")
STEADY = ["method", "status", "strength", "stop_at"]
SHOWS = ["show_preview", "show_matte", "show_composite", "show_raw"]
FG, TO_BG = find_method("fg_attn_sd15"), find_method("fg_to_bg_sd15")
NEEDS = "This method needs {}; the loaded checkpoint is {}."
NO_FG = "This method makes no foreground."
SIZE = 64


def said(page: WebuiPage) -> str:
    return " ".join(page.component("status").inner_text().split())


def wait_until_said(page: WebuiPage, text: str) -> None:
    page.component("status").filter(has_text=text).wait_for()
    page.settle()


def choices(page: WebuiPage) -> list[str]:
    from webui_page import OFFERED

    page.component("method").locator("input").first.click()
    shown = page.page.locator(OFFERED)
    shown.first.wait_for()
    labels = [text.strip("✓ \n") for text in shown.all_inner_texts()]
    page.page.keyboard.press("Escape")
    return labels


def expected_inputs(method: LayerMethod, loaded: Arch, tab: str) -> set[str]:
    names = {f"{layer.value}_image" for layer in method.inputs}
    names |= {"resize_mode"} if method.inputs else set()
    for layer in method.layer_prompts:
        names |= {f"{layer.value}_prompt", f"{layer.value}_negative_prompt"}
    if method.arch is not loaded and sibling(method):
        names.add("switch")
    if begins_chain(method):
        names.add("chain")
    if tab == "img2img":
        names.add("mask_source")
    return names | {*STEADY, *SHOWS}


def heights(page: WebuiPage) -> dict[str, float]:
    """Returns how far below the panel's top each component stands that all methods have."""
    tops = {name: page.component(name).bounding_box() for name in ("enabled", *STEADY, *SHOWS)}
    return {name: box["y"] - tops["enabled"]["y"] for name, box in tops.items() if box}


@pytest.mark.parametrize("tab", TABS)
def test_a_method_shows_only_what_it_uses_and_moves_nothing(page: WebuiPage, tab: str) -> None:
    if tab != "txt2img":
        page.open_tab(tab)
    page.open_panel()
    first = {}
    for method in METHODS:
        page.choose_method(method.label)
        wait_until_said(page, outcome(method.outputs, 1)[-1])
        assert set(page.visible_inputs()) == expected_inputs(method, Arch.SD15, tab), method.id
        able = {name for name in SHOWS if page.component(name).locator("input").is_enabled()}
        assert ("show_composite" in able) is method.composes, method.id
        assert len(able - {"show_composite"}) == (3 if method.decodes else 0), method.id
        first = first or heights(page)
        assert heights(page) == first, method.id


@pytest.mark.parametrize("width", [1100, 800, 420])
def test_nothing_moves_on_smaller_screens(page: WebuiPage, width: int) -> None:
    page.page.set_viewport_size({"width": width, "height": 1500})
    page.open_panel()
    seen = []
    for id in ("fg_attn_sd15", "joint_sd15", "fg_to_blended_sdxl", "bg_blended_to_fg_sdxl"):
        page.choose_method(find_method(id).label)
        wait_until_said(page, outcome(find_method(id).outputs, 1)[-1])
        seen.append(heights(page))
    assert seen[1:] == seen[:-1]


@pytest.mark.parametrize("width", [1400, 1241, 800])
def test_what_else_is_given_stands_apart_and_by_its_heading(page: WebuiPage, width: int) -> None:
    page.page.set_viewport_size({"width": width, "height": 1500})
    page.open_panel()
    boxes, labels = (
        [page.component(name).locator(part).bounding_box() for name in SHOWS]
        for part in ("input", "label span")
    )
    for label, after in zip(labels, boxes[1:], strict=False):
        room = after["x"] - label["x"] - label["width"]
        assert after["y"] > label["y"] + label["height"] or room >= 12
    heading = page.component("enabled").locator(".layerdiffuse-caption span").bounding_box()
    assert boxes[0]["y"] - heading["y"] - heading["height"] < 12


@pytest.fixture
def checkpoints(server: ForgeServer, webui: Webui) -> Iterator[Client]:
    """Lets a test choose checkpoints, and puts back the one that all tests begin with."""
    client = Client(server.url)
    yield client
    client.use_checkpoint(SD15)
    if webui.shown_checkpoint:
        client.set_options(**{webui.shown_checkpoint: SD15})


def test_a_mismatch_is_said_with_a_way_out(page: WebuiPage, checkpoints: Client) -> None:
    page.open_panel()
    assert choices(page) == [m.label for m in family_first(Arch.SD15)]
    page.choose_method(find_method("fg_conv_sdxl").label)
    wait_until_said(page, NEEDS.format("SDXL", "SD1.5"))
    button = page.component("switch")
    assert button.inner_text().strip() == "Switch to the SD1.5 method"
    button.click()
    button.wait_for(state="hidden")
    assert page.method() == FG.label
    assert said(page) == "1 set × 1 layer = 1 image: Foreground (RGBA)"
    page.choose_method(find_method("bg_blended_to_fg_sdxl").label)
    wait_until_said(page, "SD1.5 has no such method.")
    assert not button.is_visible()


def test_another_checkpoint_is_followed(page: WebuiPage, checkpoints: Client) -> None:
    skip_without(SDXL)
    page.open_panel()
    page.choose_method(find_method("joint_sd15").label)
    page.choose_checkpoint(SDXL)
    wait_until_said(page, NEEDS.format("SD1.5", "SDXL"))
    assert choices(page) == [m.label for m in family_first(Arch.SDXL)]
    assert page.method() == find_method("joint_sd15").label
    page.load()  # What the page was built with is another one now.
    page.open_panel()
    wait_until_said(page, "Foreground (RGBA)")
    assert "checkpoint" not in said(page)
    assert choices(page) == [m.label for m in family_first(Arch.SDXL)]


@pytest.fixture
def sdxl_name(checkpoints: Client, server: ForgeServer, webui: Webui) -> Iterator[str]:
    """The name of a checkpoint that looks like an SDXL one by its header, and is never loaded.

    Where a WebUI loads what is chosen at once, it is the one that can be.
    """
    if webui.loads_at_once:
        skip_without(SDXL)
        yield SDXL
        return
    unet = "model.diffusion_model."
    cross = f"{unet}input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight"
    shapes = {cross: (2, 2048), f"{unet}label_emb.0.0.weight": (2, 2)}
    path = server.data_dir / "models/Stable-diffusion/header-only.safetensors"
    save_file({key: np.zeros(shape, np.float16) for key, shape in shapes.items()}, path)
    yield path.name
    path.unlink()


@pytest.mark.parametrize("tab", TABS)
def test_the_first_method_is_of_the_checkpoints_family_until_one_is_chosen(
    page: WebuiPage, sdxl_name: str, tab: str
) -> None:
    page.load()  # The list of checkpoints is read again.
    if tab != "txt2img":
        page.open_tab(tab)
    page.open_panel()
    alone = "1 set × 1 layer = 1 image: Foreground (RGBA)"
    sdxl, joint = find_method("fg_attn_sdxl"), find_method("joint_sd15")
    assert (page.method(), said(page)) == (FG.label, alone)
    for name, method in ((sdxl_name, sdxl), (SD15, FG), (sdxl_name, sdxl)):
        page.choose_checkpoint(name)
        assert (page.method(), said(page)) == (method.label, alone)
        assert not page.component("switch").is_visible()
    page.choose_method(joint.label)
    page.choose_method(sdxl.label)
    page.choose_checkpoint(SD15)
    assert page.method() == sdxl.label
    assert NEEDS.format("SDXL", "SD1.5") in said(page)


def test_a_pasted_method_stays(page: WebuiPage, sdxl_name: str) -> None:
    page.load()
    page.open_panel()
    ours = f"layerdiffusion_enabled: True, layerdiffusion_method: {FG.label}"
    page.set_prompt(f"a ball\nSteps: 1, {ours}")
    page.page.locator("#paste").first.click()
    page.settle()
    page.choose_checkpoint(sdxl_name)
    assert page.method() == FG.label
    wait_until_said(page, NEEDS.format("SD1.5", "SDXL"))


def test_an_output_that_is_off_says_why(page: WebuiPage) -> None:
    page.open_panel()
    for id, reasons in (
        ("fg_attn_sd15", ["", "", "This method has no background.", ""]),
        ("fg_to_blended_sdxl", [NO_FG, NO_FG, "This method has no background.", NO_FG]),
        ("bg_to_blended_sdxl", [NO_FG, NO_FG, "This method has no foreground.", NO_FG]),
        ("joint_sd15", [""] * 4),
    ):
        page.choose_method(find_method(id).label)
        page.settle()
        for name, reason in zip(SHOWS, reasons, strict=True):
            output = page.component(name)
            assert output.locator("input").is_enabled() is not bool(reason)
            assert output.get_by_text("This method").count() == bool(reason)
            if not reason:
                continue
            why = output.get_by_text(reason, exact=True)
            page.page.mouse.move(0, 0)
            page.page.wait_for_timeout(200)
            assert opacity(why) == 0
            output.locator("label").hover()
            page.page.wait_for_timeout(700)
            assert opacity(why) == 1


def opacity(shown: Locator) -> float:
    return float(shown.evaluate("e => getComputedStyle(e).opacity"))


def test_layer_prompts_say_what_they_do(page: WebuiPage) -> None:
    page.open_panel()
    page.choose_method(find_method("joint_sd15").label)
    for layer, whose in (("fg", "foreground"), ("bg", "background"), ("blended", "blend")):
        for kind, main in (("prompt", "main"), ("negative_prompt", "negative")):
            told = f"Added before the {main} prompt, for the {whose} only"
            assert page.component(f"{layer}_{kind}").get_by_text(told, exact=True).is_visible()


@pytest.mark.parametrize("tab", TABS)
def test_it_says_what_comes_out(page: WebuiPage, tab: str) -> None:
    if tab != "txt2img":
        page.open_tab(tab)
    page.open_panel()
    page.choose_method(find_method("joint_sd15").label)
    page.set_number("batch_size", 2)
    wait_until_said(page, "2 sets × 3 layers = 6 images")
    page.set_number("batch_count", 3)
    wait_until_said(page, "6 sets × 3 layers = 18 images")
    page.tick("show_matte")
    page.tick("show_composite")
    wait_until_said(page, "18 images + 12 extras: Foreground (RGBA), Background, Blended")
    page.choose_method(find_method("fg_to_bg_sd15").label)
    wait_until_said(page, "6 sets × 2 layers = 12 images + 6 extras: Background, Blended")


def half_transparent_ball(path: Path) -> np.ndarray:
    """Writes an image with every kind of alpha, and colour under none of it."""
    ball = glass_ball(SIZE)
    ball[:8, :8] = (200, 10, 20, 0)
    assert len(np.unique(ball[..., 3])) > 50
    Image.fromarray(ball).save(path)
    return ball


def copy(page: WebuiPage, path: Path) -> None:
    """Puts a PNG into the clipboard."""
    page.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.page.evaluate(
        """async bytes => {
            const blob = new Blob([new Uint8Array(bytes)], {type: "image/png"});
            await navigator.clipboard.write([new ClipboardItem({"image/png": blob})]);
        }""",
        list(path.read_bytes()),
    )


def wait_for_picture(page: WebuiPage, name: str, before: str | None = None) -> np.ndarray:
    """Returns what a slot shows, once it is another than `before`."""
    page.page.wait_for_function(
        """([id, before]) => {
            const shown = document.querySelector(`#${id} img`)?.getAttribute("src");
            const isThere = shown?.includes("/file=") || shown?.startsWith("data:image/");
            return isThere && shown !== before;
        }""",
        arg=[f"script_{page.tab}_layerdiffuse_{name}", before],
    )
    page.settle()
    shown = page.slot(name)
    assert shown is not None
    return shown


def assert_looks_like(shown: np.ndarray, wanted: np.ndarray) -> None:
    """A clipboard may premultiply colours, so that they come back rounded, but never alpha."""
    np.testing.assert_array_equal(shown[..., 3], wanted[..., 3])
    board = checkerboard(SIZE, SIZE)
    np.testing.assert_allclose(
        composite(from_u8(shown), board), composite(from_u8(wanted), board), atol=2 / 255
    )


def test_slots_keep_alpha(page: WebuiPage, tmp_path: Path) -> None:
    ball = half_transparent_ball(tmp_path / "ball.png")
    Image.fromarray(ball[::-1]).save(tmp_path / "other.png")
    page.open_panel()
    page.choose_method(find_method("bg_blended_to_fg_sdxl").label)
    page.upload("bg_image", tmp_path / "ball.png")
    np.testing.assert_array_equal(page.slot("bg_image"), ball)

    copy(page, tmp_path / "other.png")
    slot = page.component("bg_image")
    uploaded = slot.locator("img").get_attribute("src")
    slot.hover()
    page.page.keyboard.press("Control+v")
    assert_looks_like(wait_for_picture(page, "bg_image", uploaded), ball[::-1])
    assert page.slot("blended_image") is None

    slot = page.component("blended_image")
    if page.gradio() > 3:
        slot.get_by_label("Paste from clipboard").click()
    else:  # Its slots have no such button.
        slot.hover()
        page.page.keyboard.press("Control+v")
    assert_looks_like(wait_for_picture(page, "blended_image"), ball[::-1])

    for scheme, colour in (("light", "rgb(207, 207, 207)"), ("dark", "rgb(58, 58, 64)")):
        page.page.evaluate("dark => document.body.classList.toggle('dark', dark)", scheme == "dark")
        background = slot.locator("img").evaluate("e => getComputedStyle(e).backgroundImage")
        assert "conic-gradient" in background
        assert colour in background


def test_a_result_is_dragged_to_a_slot_and_the_job_gets_it(
    page: WebuiPage, server: ForgeServer
) -> None:
    page.small_job(side=SIZE, steps=1)
    page.open_panel()
    page.choose_method(FG.label)
    page.generate()
    made = page.gallery()[-1]
    assert made.shape == (SIZE, SIZE, 4), page.notes()
    page.choose_method(TO_BG.label)
    result = page.page.locator("#txt2img_gallery [data-testid=detailed-image]")
    result.drag_to(page.component("fg_image"))
    np.testing.assert_array_equal(wait_for_picture(page, "fg_image"), made)

    kept = server.data_dir.rglob("layerdiffuse-pictures/*.png")
    before = set(kept)
    page.generate()
    assert f"layerdiffusion_method: {TO_BG.label}" in page.infotext()
    assert len(page.gallery()) == 1 + TO_BG.frames  # And a grid.
    new = set(server.data_dir.rglob("layerdiffuse-pictures/*.png")) - before
    [picture] = new
    np.testing.assert_array_equal(np.asarray(Image.open(picture)), made)


def test_the_keyboard_is_enough(page: WebuiPage) -> None:
    keys = page.page.keyboard
    page.component("enabled").locator(".label-wrap").first.focus()
    keys.press("Enter")
    page.component("method").wait_for()
    assert page.enabled()
    page.settle()
    page.choose_method(find_method("fg_attn_sdxl").label)
    page.component("switch").wait_for()
    page.component("method").locator("input").first.focus()
    keys.press("Tab")
    assert focused(page) == "switch"
    keys.press("Space")
    page.component("switch").wait_for(state="hidden")
    assert page.method() == FG.label
    page.component("method").locator("input").first.focus()
    order = []
    for _ in range(7):
        keys.press("Tab")
        order.append(focused(page))
    can = ["show_preview", "show_matte", "show_raw"]
    assert order == ["strength", "strength", "stop_at", "stop_at", *can]
    keys.press("Space")
    assert page.ticked("show_raw")


def focused(page: WebuiPage) -> str:
    id = page.page.evaluate(
        "() => document.activeElement.closest('[id*=layerdiffuse_]:not([id$=enabled])')?.id"
    )
    return (id or "").rpartition("layerdiffuse_")[2]


def test_everything_has_a_name_for_screen_readers(page: WebuiPage) -> None:
    page.open_panel()
    for id in ("bg_blended_to_fg_sdxl", "joint_sd15"):
        page.choose_method(find_method(id).label)
        nameless = page.component("enabled").evaluate(
            """panel => [...panel.querySelectorAll("input, textarea, button, [role=group]")]
                .filter(e => e.offsetParent !== null && !e.id.endsWith("-visible-checkbox"))
                .filter(e => !(e.getAttribute("aria-label") || e.innerText?.trim()
                    || [...e.labels ?? []].some(label => label.innerText.trim())))
                .map(e => e.outerHTML)"""
        )
        assert nameless == []
    page.choose_method(find_method("bg_blended_to_fg_sdxl").label)
    for name, label in (("bg_image", "Background"), ("blended_image", "Blended")):
        assert page.component(name).get_attribute("role") == "group"
        assert page.component(name).get_attribute("aria-label") == label


def test_it_can_be_translated(page: WebuiPage) -> None:
    page.open_panel()
    page.choose_method(find_method("fg_attn_sdxl").label)
    page.component("switch").wait_for()
    words = {
        "set": "Satz",
        "layer": "Ebene",
        "image": "Bild",
        "Foreground": "Vordergrund",
        NEEDS.format("SDXL", "SD1.5"): "Dieses Verfahren braucht SDXL.",
        "Switch to the SD1.5 method": "Zum Verfahren für SD1.5",
        "Also give": "Dazu",
        "Matte": "Maske",
    }
    panel = page.component("enabled")
    panel.evaluate("(panel, words) => { window.localization = words; processNode(panel); }", words)
    assert said(page) == (
        "1 Satz × 1 Ebene = 1 Bild: Vordergrund (RGBA) Dieses Verfahren braucht SDXL."
    )
    lines = {line.strip() for line in panel.inner_text().splitlines()}
    assert {"Zum Verfahren für SD1.5", "Dazu", "Maske"} <= lines
