"""Below the gallery: results into slots, the composite view, and both steps of a chain."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from client import Client
from documents import assert_shows, read_layers
from forge_server import ForgeServer
from layers import SIZE
from pictures import lake_scene
from PIL import Image
from random_weights import SD15, SDXL

from lib_layerdiffuse.documents.kinds import DocumentKind
from lib_layerdiffuse.imaging.images import (
    ResizeMode,
    composite,
    fit,
    from_u8,
    premultiply,
    to_u8,
    unpremultiply,
)
from lib_layerdiffuse.methods import find_method

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator
    from webui_page import WebuiPage

JOINT = find_method("joint_sd15")
FROM_BG, BG_TO_FG = find_method("bg_to_blended_sdxl"), find_method("bg_blended_to_fg_sdxl")


@dataclass(frozen=True)
class Made:
    """A page, and the layers of the set in its gallery."""

    page: WebuiPage
    fg: np.ndarray
    bg: np.ndarray
    blended: np.ndarray


def joint_set(page: WebuiPage) -> list[np.ndarray]:
    """Makes one set; returns its foreground, background and blended image."""
    page.small_job()
    page.open_panel()
    page.choose_method(JOINT.label)
    page.generate()
    return page.gallery()[-3:]


def download(page: WebuiPage, button: Locator, folder: Path) -> Path:
    """Returns the file that a button gives."""
    with page.page.expect_download() as started:
        button.click()
    path = folder / started.value.suggested_filename
    started.value.save_as(path)
    return path


def downloaded(page: WebuiPage, folder: Path) -> np.ndarray:
    """Returns what the composite view's button gives."""
    path = download(page, page.below("composite").get_by_role("button", name="Download"), folder)
    assert path.name.endswith("-composite.png")
    return np.asarray(Image.open(path))


def assert_close(found: np.ndarray, wanted: np.ndarray, levels: int = 1) -> None:
    """Checks an opaque image against RGB, within so many of 255 levels."""
    assert found.shape[2] == 3 or found[..., 3].min() == 255
    assert found.shape[:2] == wanted.shape[:2]
    assert np.abs(found[..., :3].astype(int) - wanted.astype(int)).max() <= levels


def mitchell(count: int, size: int) -> np.ndarray:
    """Returns the weights, `size count`, that enlarge a row of pixels, as Chromium does.

    Source: D. Mitchell and A. Netravali, "Reconstruction filters in computer graphics", 1988, with
    B = C = 1/3.
    """
    places = (np.arange(size) + 0.5) * count / size - 0.5
    nearest = np.floor(places).astype(int)[:, None] + np.arange(-1, 3)
    x = np.abs(places[:, None] - nearest)
    near = (21 * x**3 - 36 * x**2 + 16) / 18
    far = (-7 * x**3 + 36 * x**2 - 60 * x + 32) / 18
    weights = np.zeros((size, count))
    rows = np.broadcast_to(np.arange(size)[:, None], nearest.shape)
    np.add.at(weights, (rows, nearest.clip(0, count - 1)), np.where(x < 1, near, far))
    return weights


def enlarged(rgba: np.ndarray, side: int) -> np.ndarray:
    """Returns a straight image, enlarged premultiplied to a square."""
    down, across = (mitchell(count, side) for count in rgba.shape[:2])
    grown = np.einsum("yh,hwc,xw->yxc", down, premultiply(from_u8(rgba)), across).clip(0, 1)
    return to_u8(unpremultiply(grown))


def over(fg: np.ndarray, under: np.ndarray) -> np.ndarray:
    return to_u8(composite(from_u8(fg), from_u8(under)))


def test_a_result_goes_into_its_slot_and_the_next_method_runs(page: WebuiPage) -> None:
    fg, *_ = joint_set(page)
    said = page.press("to_fg")  # The page has chosen the grid by itself.
    wanted = find_method("fg_to_bg_sd15").label
    assert said == (
        f"The image of the set is now in the slot: Foreground. The method is now: {wanted}."
    )
    assert page.method() == wanted
    np.testing.assert_array_equal(page.slot("fg_image"), fg)
    page.generate()
    assert f"layerdiffusion_method: {wanted}" in page.infotext()
    assert len(page.gallery()) == 3  # A grid and a set of two.
    made_bg = page.gallery()[1]
    page.choose_picture(1)
    assert page.press("to_bg").startswith("This image is now in the slot: Background.")
    assert page.method() == find_method("bg_to_fg_sd15").label
    np.testing.assert_array_equal(page.slot("bg_image"), made_bg)
    page.generate()
    assert page.gallery()[1].shape[2] == 4
    page.choose_method(wanted)
    np.testing.assert_array_equal(page.slot("fg_image"), fg)  # It is still there.


PUT = ["to_fg", "to_bg", "to_blended"]
FILES = [f"as_{kind.value}" for kind in DocumentKind]


def buttons(page: WebuiPage) -> list[str]:
    """Returns the names of our buttons that are there."""
    return [name for name in (*PUT, "view", *FILES) if page.below(name).is_visible()]


def test_two_sets_are_asked_about(page: WebuiPage) -> None:
    page.small_job(side=64, steps=1)
    page.set_number("batch_count", 2)
    page.open_panel()
    page.choose_method(find_method("fg_attn_sd15").label)
    page.generate()
    said = page.press("to_fg")
    assert said == "There are 2 sets. Choose the foreground of one in the gallery."
    assert page.slot("fg_image") is None


@pytest.mark.parametrize("tab", ["txt2img", "img2img"])
def test_a_button_is_there_when_it_has_something_to_act_on(
    page: WebuiPage, tmp_path: Path, tab: str
) -> None:
    if tab == "img2img":
        page.open_tab(tab)
        Image.fromarray(lake_scene(64)).save(tmp_path / "lake.png")
        page.page.locator("#img2img_image input[type=file]").first.set_input_files(
            tmp_path / "lake.png"
        )
        page.settle()
    page.small_job(side=64, steps=1)
    assert buttons(page) == []
    page.generate()  # Without layers.
    assert buttons(page) == [*PUT, "view"]
    assert page.below("view").is_disabled()
    none = "There are no layers in the gallery. Make some first."
    assert page.below("view").get_attribute("title") == none
    page.open_panel()
    page.choose_method(JOINT.label)
    page.generate()
    assert buttons(page) == [*PUT, "view", *FILES]
    assert page.below("view").is_enabled()
    assert "over its background" in (page.below("view").get_attribute("title") or "")
    page.choose_method(find_method("bg_to_fg_sd15").label)
    page.generate()  # It needs an image.
    assert page.gallery() == []
    assert buttons(page) == []


@pytest.fixture(scope="module")
def made(server: ForgeServer, browser: Browser) -> Iterator[Made]:
    """A page with one set, which the tests only look at."""
    from webui_page import WebuiPage

    page = WebuiPage(browser.new_page(viewport={"width": 1500, "height": 1500}), server.url).load()
    yield Made(page, *joint_set(page))
    assert page.errors == []
    page.page.close()


def test_the_keyboard_is_enough(made: Made) -> None:
    page = made.page
    page.choose_picture(2)
    page.below("to_bg").focus()
    page.page.keyboard.press("Enter")
    page.settle()
    assert page.method() == find_method("bg_to_fg_sd15").label
    page.page.keyboard.press("Tab")
    page.page.keyboard.press("Tab")
    page.page.keyboard.press("Space")
    page.below("composite").locator("canvas").wait_for(state="visible")


def test_the_composite_view_shows_and_gives_the_true_composite(made: Made, tmp_path: Path) -> None:
    page, fg, bg = made.page, made.fg, made.bg
    assert page.press("view") == ""
    view = page.below("composite")
    view.locator("canvas").wait_for(state="visible")
    view.locator("select").select_option("Background")
    assert_close(downloaded(page, tmp_path), over(fg, bg))

    view.locator("select").select_option("Colour")
    view.locator("input[type=color]").fill("#ff8000")
    solid = np.broadcast_to(np.array([255, 128, 0], np.uint8), bg.shape)
    assert_close(downloaded(page, tmp_path), over(fg, solid))

    view.locator("select").select_option("Checkerboard")
    clear = downloaded(page, tmp_path)
    np.testing.assert_array_equal(clear[..., 3], fg[..., 3])
    assert_close(over(clear, solid), over(fg, solid))

    lake = lake_scene(SIZE)
    Image.fromarray(lake).save(tmp_path / "lake.png")
    view.locator("select").select_option("Image")
    with page.page.expect_file_chooser() as asked:
        view.get_by_role("button", name="Choose file").click()
    asked.value.set_files(tmp_path / "lake.png")
    page.settle()
    assert_close(downloaded(page, tmp_path), over(enlarged(fg, SIZE), lake), levels=3)


def test_small_images_are_shown_large_and_large_ones_whole(made: Made, tmp_path: Path) -> None:
    page = made.page
    page.press("view")
    view = page.below("composite")
    canvas = view.locator("canvas")
    canvas.wait_for(state="visible")
    view.locator("select").select_option("Background")
    side = made.bg.shape[1]
    rendering = "e => getComputedStyle(e).imageRendering"
    for width in (1500, 700, 1500):
        page.page.set_viewport_size({"width": width, "height": 1500})
        page.settle()
        room, shown = view.bounding_box(), canvas.bounding_box()
        assert room is not None
        assert shown is not None
        step = round(shown["width"] / side)
        assert shown["width"] == shown["height"] == step * side
        assert step >= 2
        assert (step + 1) * side > min(room["width"] - 30, 0.75 * 1500)  # Its frame takes some.
        assert canvas.evaluate(rendering) == "pixelated"
    lake = np.tile(lake_scene(SIZE), (8, 12, 1))
    Image.fromarray(lake).save(tmp_path / "lake.png")
    view.locator("select").select_option("Image")
    view.locator("input[type=file]").set_input_files(tmp_path / "lake.png")
    page.settle()
    room, shown = view.bounding_box(), canvas.bounding_box()
    assert room is not None
    assert shown is not None
    assert 0.8 * room["width"] < shown["width"] <= room["width"]
    assert shown["width"] / shown["height"] == pytest.approx(1.5, abs=0.02)
    assert canvas.evaluate(rendering) == "auto"
    assert downloaded(page, tmp_path).shape[:2] == lake.shape[:2]
    view.locator("select").select_option("Background")


def test_the_foreground_is_moved_and_scaled(made: Made, tmp_path: Path) -> None:
    page, fg, bg = made.page, made.fg, made.bg
    page.press("view")
    view = page.below("composite")
    canvas = view.locator("canvas")
    canvas.wait_for(state="visible")
    view.locator("select").select_option("Background")
    view.get_by_role("button", name="Reset").click()
    canvas.focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowRight", "Shift+ArrowDown"):
        canvas.press(key)
    moved = np.zeros_like(fg)
    moved[10:, 3:] = fg[:-10, :-3]
    assert_close(downloaded(page, tmp_path), over(moved, bg))

    box = canvas.bounding_box()
    assert box is not None
    ratio = box["width"] / bg.shape[1]
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    mouse = page.page.mouse
    mouse.move(x, y)
    mouse.down()
    mouse.move(x - 3 * ratio, y - 10 * ratio)
    mouse.up()
    assert_close(downloaded(page, tmp_path), over(fg, bg))

    slider = view.locator("input[type=range]")
    slider.fill("50")
    half = to_u8(fit(from_u8(fg), fg.shape[1] // 2, fg.shape[0] // 2, ResizeMode.STRETCH))
    small = np.zeros_like(fg)
    top, left = (side // 4 for side in fg.shape[:2])
    small[top : top + half.shape[0], left : left + half.shape[1]] = half
    found = downloaded(page, tmp_path)
    outside = np.ones(fg.shape[:2], bool)
    outside[top : top + half.shape[0], left : left + half.shape[1]] = False
    np.testing.assert_array_equal(found[..., :3][outside], bg[outside])
    assert_close(found, over(small, bg), levels=3)

    canvas.hover()
    canvas.focus()
    mouse.wheel(0, -100)
    page.settle()
    assert slider.input_value() == "53"
    canvas.press("0")
    assert_close(downloaded(page, tmp_path), over(fg, bg))
    view.get_by_role("button", name="Close").click()
    assert not canvas.is_visible()


@pytest.mark.parametrize("kind", DocumentKind)
def test_layers_are_downloaded_in_one_file(made: Made, tmp_path: Path, kind: DocumentKind) -> None:
    page = made.page
    path = download(page, page.below(f"as_{kind.value}"), tmp_path)
    assert path.name.endswith(f"-layers.{kind.value}")
    layers = dict(read_layers(path))
    assert list(layers) == ["Background", "Foreground", "Blended"]
    for found, wanted in zip(layers.values(), (made.bg, made.fg, made.blended), strict=True):
        assert_shows(found, wanted)


@pytest.fixture
def sdxl(server: ForgeServer) -> Iterator[None]:
    """Loads the SDXL checkpoint for one test."""
    Client(server.url).use_checkpoint(SDXL)
    yield
    Client(server.url).use_checkpoint(SD15)


@pytest.mark.usefixtures("sdxl")
def test_a_chain_makes_all_layers_in_one_go(page: WebuiPage, tmp_path: Path) -> None:
    lake = lake_scene(128)
    Image.fromarray(lake).save(tmp_path / "lake.png")
    page.small_job()
    page.open_panel()
    page.choose_method(FROM_BG.label)
    assert not page.component("fg_prompt").is_visible()
    page.tick("chain")
    assert page.component("fg_prompt").is_visible()
    assert not page.component("bg_prompt").is_visible()
    page.set_text("fg_prompt", "a ball")
    page.upload("bg_image", tmp_path / "lake.png")
    page.generate(timeout=1200)
    blended, fg, given = page.gallery()
    assert (blended.shape[2], fg.shape[2]) == (3, 4)
    np.testing.assert_array_equal(given, lake)

    page.choose_picture(1)
    assert f"layerdiffusion_method: {BG_TO_FG.label}" in page.infotext()
    assert "Sampler: Euler a" in page.infotext()
    assert page.infotext().startswith("a ball, a glass ball")
    page.press("view")
    page.below("composite").locator("canvas").wait_for(state="visible")
    assert_close(downloaded(page, tmp_path), over(fg, lake))

    page.choose_picture(0)
    page.press("to_blended")
    assert page.method() == BG_TO_FG.label
    np.testing.assert_array_equal(page.slot("blended_image"), blended)
    np.testing.assert_array_equal(page.slot("bg_image")[..., :3], lake)
    assert not page.component("chain").is_visible()
