"""Every way on which an image of ours leaves the page or comes back to it keeps its alpha."""

from __future__ import annotations

import io
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

import numpy as np
import pytest
from client import Client
from forge_server import ForgeServer
from pictures import glass_ball
from PIL import Image
from webuis import Webui

from lib_layerdiffuse.methods import find_method

if TYPE_CHECKING:
    from playwright.sync_api import Locator
    from webui_page import WebuiPage

FG, JOINT = find_method("fg_attn_sd15"), find_method("joint_sd15")
CHOSEN = [("Alpha", "png"), ("RGB", "jpg"), ("Alpha", "webp"), ("Alpha", "avif"), ("RGB", "png")]
"""Where infotexts are hidden, and the format of images; the WebUI's defaults first."""
DROP = """async ([url, target]) => {
    const blob = await (await fetch(url)).blob();
    const dataTransfer = new DataTransfer();
    dataTransfer.items.add(new File([blob], "made.png", {type: blob.type}));
    const drop = new DragEvent("drop", {dataTransfer, bubbles: true, cancelable: true});
    document.querySelector(target).dispatchEvent(drop);
}"""


def pixels(source: Any) -> np.ndarray:
    with Image.open(source) as image:
        return np.asarray(image)


def saved(server: ForgeServer) -> set[Path]:
    """Returns what the buttons below the galleries have saved."""
    found = server.data_dir.glob("*/images/**/*.*")  # In "log", or in Forge Neo in "output".
    return {path for path in found if path.suffix != ".csv"}


def shown(page: WebuiPage, image: Locator) -> np.ndarray:
    """Returns the image that a slot or a canvas of the host shows."""
    image.wait_for(state="attached")  # Gradio 3 hides what it draws on a canvas of its own.
    address = urljoin(f"{page.url}/", image.get_attribute("src") or "")
    with urllib.request.urlopen(address, timeout=60) as answer:
        return pixels(io.BytesIO(answer.read()))


def in_extras(page: WebuiPage) -> Locator:
    """Returns the image in the Extras tab's slot."""
    return page.page.locator("#extras_image img").first


def check_alpha(got: np.ndarray, wanted: np.ndarray) -> None:
    """Checks that alpha is the same, and the colours that are seen."""
    np.testing.assert_array_equal(got[..., 3], wanted[..., 3])
    seen, meant = (i[..., :3] * (i[..., 3:] / 255) for i in (got, wanted))
    assert np.abs(seen - meant).max() <= 1


@pytest.fixture(params=CHOSEN, ids="-".join)
def made(
    page: WebuiPage, server: ForgeServer, webui: Webui, request: pytest.FixtureRequest
) -> Iterator[Any]:
    """A set with its matte in the gallery: its foreground and all of its images."""
    client = Client(server.url)
    hidden, form = request.param
    if (hidden, form) == CHOSEN[-1] and not webui.hides_infotexts:
        pytest.skip(f"{webui.name} hides no infotexts in images")
    hiding = {"stealth_pnginfo_option": hidden} if webui.hides_infotexts else {}
    client.set_options(samples_format=form, **hiding)
    page.small_job(side=64, steps=1)
    page.open_panel()
    page.choose_method(JOINT.label)
    page.tick("show_matte")
    page.generate()
    images = page.gallery()
    assert [image.shape[2] for image in images[-4:]] == [4, 3, 3, 3], page.notes()
    yield images[-4], images
    hiding = dict.fromkeys(hiding, "Alpha")
    client.set_options(samples_format="png", **hiding)


def test_save_and_zip(page: WebuiPage, server: ForgeServer, made: Any) -> None:
    fg, images = made
    first = len(images) - 4
    page.choose_picture(first)
    before = saved(server)
    page.page.locator("#save_txt2img").click()
    page.settle()
    [one] = saved(server) - before
    np.testing.assert_array_equal(pixels(one), fg)

    page.choose_picture(0)  # The grid: all are meant.
    page.page.locator("#save_zip_txt2img").click()
    page.settle()
    [packed] = [path for path in saved(server) - before if path.suffix == ".zip"]
    with zipfile.ZipFile(packed) as files:
        names = files.namelist()
        assert len(names) == len(images), page.notes()
        np.testing.assert_array_equal(pixels(io.BytesIO(files.read(names[first]))), fg)
    packed.unlink()


def test_sent_from_the_gallery(page: WebuiPage, made: Any) -> None:
    fg, images = made
    page.choose_picture(len(images) - 4)
    for tab, canvas in (("img2img", "img2img_image"), ("inpaint", "img2maskimg")):
        page.open_tab("txt2img")
        page.page.locator(f"#txt2img_send_to_{tab}").click()
        page.settle()
        check_alpha(shown(page, page.canvas_image(canvas)), fg)
    page.open_tab("txt2img")
    page.page.locator("#txt2img_send_to_extras").click()
    page.settle()
    np.testing.assert_array_equal(shown(page, in_extras(page)), fg)


@pytest.mark.parametrize(
    ("tab", "slot", "button"),
    [
        ("pnginfo", "#pnginfo_image", "#tab_pnginfo #{}_tab"),
        ("e2e_history", "#e2e_history_image", "#e2e_history_to_{}"),
    ],
)
def test_sent_from_where_an_image_stands_by_itself(
    page: WebuiPage, tmp_path: Path, tab: str, slot: str, button: str
) -> None:
    """PNG Info, and extensions with histories."""
    ball = glass_ball(64)
    Image.fromarray(ball).save(tmp_path / "ball.png")
    page.open_tab(tab)
    page.page.locator(f"{slot} input[type=file]").first.set_input_files(tmp_path / "ball.png")
    page.page.locator(f"{slot} img").first.wait_for()
    page.settle()
    for target, canvas in (("img2img", "img2img_image"), ("inpaint", "img2maskimg")):
        page.open_tab(tab)
        page.page.locator(button.format(target)).first.click()
        page.settle()
        check_alpha(shown(page, page.canvas_image(canvas)), ball)
    page.open_tab(tab)
    page.page.locator(button.format("extras")).first.click()
    page.settle()
    np.testing.assert_array_equal(shown(page, in_extras(page)), ball)


def test_from_png_info_by_img2img_to_img2img(page: WebuiPage, server: ForgeServer) -> None:
    """What was sent makes a transparent image, whose file is dropped where it came from."""
    path = server.data_dir / "ball.png"
    Image.fromarray(glass_ball(64)).save(path)
    page.read_png_info(path)
    page.send_to("img2img")
    page.small_job(side=64, steps=1)
    page.open_panel()
    page.choose_method(FG.label)
    page.choose_radio("mask_source", "Visible part")
    page.generate()
    image, *_ = page.gallery()  # What was sent without an infotext brings the last job's settings.
    np.testing.assert_array_equal(image[:4, :4, 3], glass_ball(64)[:4, :4, 3])
    canvas = page.canvas_image("img2img_image")
    before = canvas.get_attribute("src")
    file = page.page.locator("#img2img_gallery img").first.get_attribute("src")
    target = ".forge-image-container" if page.gradio() > 3 else "[data-testid=image]"
    page.page.evaluate(DROP, [file, f"#img2img_image {target}"])
    page.page.wait_for_function(
        "([image, before]) => image.src !== before", arg=[canvas.element_handle(), before]
    )
    check_alpha(shown(page, canvas), image)


def test_generate_forever(page: WebuiPage) -> None:
    page.small_job(side=64, steps=1)
    page.open_panel()
    page.choose_method(FG.label)
    seen: list[str] = []

    def note(response: Any) -> None:
        if "-fg.png" in response.url:
            seen.append(response.url.partition("?")[0])

    def choose(entry: str) -> None:
        place = {"clientX": 300, "clientY": 300}  # The button may be covered by another.
        page.page.locator("#txt2img_generate").first.dispatch_event("contextmenu", place)
        page.page.locator("#context-menu").get_by_text(entry, exact=True).click()

    page.page.on("response", note)
    choose("Generate forever")
    for _ in range(600):
        if len(set(seen)) > 1:
            break
        page.page.wait_for_timeout(500)
    choose("Cancel generate forever")
    page.wait_for_job()
    assert len(set(seen)) > 1
    for address in set(seen):
        with urllib.request.urlopen(address, timeout=60) as answer:
            assert pixels(io.BytesIO(answer.read()))[..., 3].min() < 254
