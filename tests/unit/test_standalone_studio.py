"""The studio's page: what it is made of, and what its buttons do, without a browser."""

from __future__ import annotations

from dataclasses import fields, replace
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest
from PIL import Image
from random_family import see_eight_views

from lib_layerdiffuse.cli import main
from lib_layerdiffuse.errors import MissingLayerError, SettingsError
from lib_layerdiffuse.imaging.images import ResizeMode, composite, fit, from_u8, to_u8
from lib_layerdiffuse.methods import METHODS, Arch, Layer, find_method
from lib_layerdiffuse.settings.chains import begins_chain
from lib_layerdiffuse.settings.layer_settings import LayerSettings
from lib_layerdiffuse.standalone.generation import Generation
from lib_layerdiffuse.standalone.models import ModelChoice, Models
from lib_layerdiffuse.studio import studio_page as studio
from lib_layerdiffuse.studio import workbench
from lib_layerdiffuse.studio.workbench import Fields, Workbench, composed, read_colour
from lib_layerdiffuse.weights import checkpoints

VISITOR = SimpleNamespace(session_hash="one")
NAMES = [field.name for field in fields(LayerSettings)]
LABELS = {field.metadata["label"] for field in fields(LayerSettings)} - {"Enabled", "Unused"}


def refuse():
    raise AssertionError("the ordinary files are not needed")


@pytest.fixture
def bench(tmp_path, family) -> Workbench:
    return Workbench(Models(refuse), ModelChoice(), tmp_path / "out")


@pytest.fixture(scope="module")
def laid_out(tmp_path_factory) -> studio.Page:
    """The page that all tests look at; it takes long to lay out."""
    return studio.Page(Workbench(Models(refuse), ModelChoice(), tmp_path_factory.mktemp("out")))


@pytest.fixture
def page(laid_out, bench, monkeypatch) -> studio.Page:
    """The page, whose buttons have this test's workbench do their work."""
    monkeypatch.setattr(laid_out, "workbench", bench)
    return laid_out


def panel(method_id: str, **more: object) -> list[object]:
    """Returns what the panel's components hand over."""
    values = {"enabled": True, "method": find_method(method_id).label} | more
    return [values.get(name) for name in NAMES]


def short(**more: object) -> Fields:
    return Fields(**({"prompt": "a cat", "seed": 3, "steps": 1, "sampler": "Euler"} | more))


def picture(channels: int = 4, width: int = 24, height: int = 16) -> Image.Image:
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 256, (height, width, channels), np.uint8))


def go_on(stage: str, done: int, total: int) -> bool:
    return True


def test_the_page_has_the_extensions_panel_and_no_webui(page):
    import sys

    assert len(page.panel.components) == len(NAMES)
    assert all(page.panel.component(name).visible for name in NAMES if name.startswith("show_"))
    labels = [getattr(block, "label", None) for block in page.blocks.blocks.values()]
    assert set(labels) >= LABELS
    assert "modules" not in sys.modules
    buttons = [b.value for b in page.blocks.blocks.values() if isinstance(b, gr.Button)]
    assert {"Generate", "Interrupt"} <= set(buttons)


def page_event(page: studio.Page, source: gr.Component, output: gr.Component):
    """Returns the event of a component's change that changes another."""
    target = (source._id, "change")
    (event,) = [
        fn for fn in page.blocks.fns.values() if fn.targets == [target] and output in fn.outputs
    ]
    return event


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.id)
def test_a_method_shows_the_inputs_that_it_reads(page, method):
    event = page_event(page, page.panel.component("method"), page.panel.component("fg_image"))
    updates = dict(zip([o.elem_id for o in event.outputs], event.fn(method.label), strict=True))
    shown = {name.removeprefix("layerdiffuse_") for name, u in updates.items() if u.get("visible")}
    pictures = {f"{layer.value}_image" for layer in method.inputs}
    kinds = ("prompt", "negative_prompt")
    prompts = {f"{layer.value}_{kind}" for layer in method.layer_prompts for kind in kinds}
    chain = {"chain"} if begins_chain(method) else set()
    assert shown == pictures | prompts | chain | ({"resize_mode"} if pictures else set())


def test_the_panel_follows_the_checkpoint_and_the_sets(page, tmp_path):
    from safetensors.numpy import save_file

    made = dict(zip([f.name for f in fields(Fields)], page.fields, strict=True))
    path = tmp_path / "mine.safetensors"
    unet = "model.diffusion_model."
    shapes = {
        f"{unet}input_blocks.0.0.weight": (2, 4, 3, 3),
        f"{unet}a.attn2.to_k.weight": (2, min(checkpoints.TEXT_WIDTHS)),
        "first_stage_model.a": (1,),
        "cond_stage_model.a": (1,),
    }
    save_file({key: np.zeros(shape, np.float16) for key, shape in shapes.items()}, path)
    say = page_event(page, made["sets"], page.panel.status)
    assert [block is made["sets"] for block in say.inputs].index(True) == 2
    ticks = [False] * 5  # The outputs, and a chain.
    joint, alone = (find_method(id).label for id in ("joint_sd15", "fg_blended_to_bg_sdxl"))
    html, button = say.fn(joint, "", 2, *ticks)
    assert "<span>6</span> <span>images</span>" in html
    assert "checkpoint" not in html
    assert not button["visible"]
    html, button = say.fn(alone, f'"{path}"', 1, *ticks)
    assert "This method needs SDXL; the loaded checkpoint is SD1.5." in html
    assert not button["visible"]
    html, button = say.fn(find_method("fg_attn_sdxl").label, str(path), 1, *ticks)
    assert button["visible"]
    method = page.panel.component("method")
    begin = page_event(page, made["checkpoint"], method)
    before = begin.fn(False, method.value, str(path), 1, *ticks)
    assert before[0]["choices"][0].startswith("(SD1.5)")
    assert before[0]["value"] == find_method("fg_attn_sd15").label
    assert "checkpoint" not in before[1]
    for chosen, name in ((True, path), (False, tmp_path / "gone.safetensors")):
        change, *_ = begin.fn(chosen, method.value, str(name), 1, *ticks)
        assert change["choices"][0].startswith("(SD1.5)")
        assert "value" not in change
    assert page.workbench.checkpoints.arch(str(tmp_path)) is None


def test_generate_fills_gallery_and_files(page, bench, monkeypatch):
    see_eight_views(monkeypatch)
    told: list[tuple[object, str]] = []
    wanted = panel("joint_sd15", show_matte=True, show_composite=True)
    values = [*vars(short()).values(), *wanted]
    progress = lambda share, desc: told.append((share, desc))  # noqa: E731
    gallery, files, result, chosen = page.generate(VISITOR, progress, *values)
    assert [caption for _, caption in gallery] == [
        "Foreground",
        "Foreground (matte)",
        "Background",
        "Blended",
        "Composite",
    ]
    assert [path for path, _ in gallery] == files
    assert (chosen, result.saved[0].layer) == (0, Layer.FG)
    for path, one in zip(files, result.saved, strict=True):
        with Image.open(path) as read:
            assert read.info["parameters"] == one.image.infotext
    with Image.open(files[0]) as read:
        assert read.mode == "RGBA"
    assert ((1, 1), "sampling") in told
    assert ((8, 8), "transparency") in told
    composite_u8, infotext = page.look(result, chosen, "Checkerboard", "", None)
    assert composite_u8.shape == (*result.saved[0].image.image.shape[:2], 3)
    assert infotext == result.saved[0].image.infotext
    assert bench.folder.folder.exists()


def test_errors_are_shown_with_their_hint(page):
    values = [*vars(short()).values(), *panel("fg_to_bg_sd15")]
    with pytest.raises(gr.Error) as shown:
        page.generate(VISITOR, lambda *_, **__: None, *values)
    said = shown.value.message
    assert said == "This method needs a foreground image.<br>Put one in the Foreground slot."
    values = [*vars(short(checkpoint="<b>gone")).values(), *panel("fg_attn_sd15")]
    with pytest.raises(gr.Error, match="&lt;b&gt;gone"):
        page.generate(VISITOR, lambda *_, **__: None, *values)


def test_what_nobody_expected_is_shown_too(page, bench, monkeypatch):
    monkeypatch.setattr(bench, "generate", lambda *_: 1 / 0)
    with pytest.raises(gr.Error, match="ZeroDivisionError: division by zero"):
        page.generate(VISITOR, None, *vars(short()).values(), *panel("fg_attn_sd15"))


def test_interrupt_stops_the_visitors_own_job(page):
    values = [*vars(short(steps=4)).values(), *panel("fg_attn_sd15")]
    stages: list[str] = []

    def others(share: object, desc: str) -> None:
        page.interrupt(SimpleNamespace(session_hash="another"))
        stages.append(desc)

    assert page.generate(VISITOR, others, *values)[1]
    before = len(stages)

    def mine(share: object, desc: str) -> None:
        page.interrupt(VISITOR)
        stages.append(desc)

    found = page.generate(VISITOR, mine, *values)
    assert all(update == gr.skip() for update in found)
    assert stages[before:] in (["loading"], ["loading", "sampling"])
    assert page.generate(VISITOR, lambda *_, **__: None, *values)[1]


def test_a_result_becomes_an_input(page, bench):
    result = bench.generate(short(), panel("joint_sd15"), go_on)
    index = [one.layer for one in result.saved].index(Layer.BG)
    slots = studio.use_as_input(result, index)
    assert slots == [gr.skip(), str(result.saved[index].path), gr.skip()]
    extras = bench.generate(short(), panel("joint_sd15", show_preview=True), go_on)
    assert [one.extra for one in extras.saved[:2]] == ["", "preview"]
    assert studio.use_as_input(extras, 1)[0] == str(extras.saved[0].path)  # The real layer.
    assert not page.use.visible
    assert studio.offer_use(result)["visible"]
    for nothing in (None, replace(result, saved=[])):
        assert not studio.offer_use(nothing)["visible"]
        with pytest.raises(gr.Error, match="no layer yet"):
            studio.use_as_input(nothing, 0)
        assert page.look(nothing, 0, "Checkerboard", "", None) == (None, "")


def test_only_the_backdrop_in_use_is_shown():
    visible = {kind: studio.show_backdrop(kind) for kind in workbench.BACKDROPS}
    assert {k: (c["visible"], p["visible"]) for k, (c, p) in visible.items()} == {
        "Checkerboard": (False, False),
        "Colour": (True, False),
        "Image": (False, True),
        "The set's background": (False, False),
    }
    assert studio.choose(SimpleNamespace(index=2)) == 2


# The workbench


def test_fields_reach_the_job(bench, monkeypatch):
    seen: list[Generation] = []
    monkeypatch.setattr(workbench, "run", lambda job, *_, **__: seen.append(job) or [])
    given = short(size="128x64", sets=2, cfg=4.5, init=picture(), denoise=0.5, negative_prompt="n")
    given = replace(given, views="adaptive", compiled=True)
    bench.generate(given, panel("bg_to_fg_sd15", bg_image=picture(3), strength=0.5), go_on)
    bench.generate(Fields(), panel("fg_attn_sdxl"), go_on)
    one, plain = seen
    assert (one.width, one.height, one.sets, one.seed, one.cfg) == (128, 64, 2, 3, 4.5)
    assert (one.sampler, one.steps, one.denoise) == ("Euler", 1, 0.5)
    assert (one.views, plain.views) == ("adaptive", 8)
    assert (one.compiled, plain.compiled) == (True, False)
    assert (one.prompt, one.negative_prompt) == ("a cat", "n")
    np.testing.assert_allclose(one.init, np.asarray(picture()) / 255, atol=1e-6)
    assert (one.settings.bg_image[..., 3] == 1).all()
    assert one.settings.strength == 0.5
    assert (plain.sampler, plain.init) == ("DPM++ 2M SDE Karras", None)
    assert plain.seed >= 0
    assert one.settings.enabled


@pytest.mark.parametrize(("chosen", "wanted"), [(0, None), (1, "eps"), (2, "v")])
def test_what_the_unet_predicts_is_chosen_on_the_page(bench, monkeypatch, chosen, wanted):
    seen: list[ModelChoice] = []

    def load(choice: ModelChoice, arch: Arch):
        seen.append(choice)
        raise SettingsError("enough")

    monkeypatch.setattr(bench.models, "open", load)
    name = list(workbench.PREDICTIONS)[chosen]
    with pytest.raises(SettingsError, match="enough"):
        bench.generate(short(prediction=name), panel("fg_attn_sdxl"), go_on)
    assert [choice.prediction for choice in seen] == [wanted]


def test_what_the_command_line_says_of_it_stands_on_the_page(bench):
    bench.choice = replace(bench.choice, prediction="v")
    shown = {one.label: one for one in studio.Page(bench).fields}
    assert shown["Prediction"].value == "Velocity (v)"


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"size": "100"}, "is no size"),
        ({"sampler": "x"}, "There is no sampler called"),
        ({"seed": 2**32}, "seed must be between 0 and 4294967295, but one is 4294967296"),
    ],
)
def test_fields_that_cannot_work(bench, given, error):
    with pytest.raises(SettingsError, match=error):
        bench.generate(short(**given), panel("fg_attn_sd15"), go_on)
    with pytest.raises(MissingLayerError):
        bench.generate(short(), panel("fg_to_bg_sd15"), go_on)


def test_layers_over_what_the_user_chooses(bench):
    result = bench.generate(short(), panel("joint_sd15"), go_on)
    fg, bg = (one.image.image for one in result.saved[:2])
    (chosen, *_) = result.saved

    def over(backdrop: str, colour: str = "#ff8000", under: Image.Image | None = None):
        return composed(result, chosen, backdrop, colour, under)

    np.testing.assert_array_equal(
        over("The set's background"), to_u8(composite(from_u8(fg), from_u8(bg)))
    )
    solid = np.broadcast_to(np.array([255, 128, 0], np.uint8), bg.shape)
    np.testing.assert_array_equal(over("Colour"), to_u8(composite(from_u8(fg), from_u8(solid))))
    same_size = Image.fromarray(np.ascontiguousarray(bg[::-1]))
    np.testing.assert_array_equal(
        over("Image", under=same_size), to_u8(composite(from_u8(fg), from_u8(bg[::-1])))
    )
    assert over("Image", under=picture(4, 300, 20)).shape == bg.shape
    np.testing.assert_array_equal(over("Image"), over("Checkerboard"))


def test_the_background_that_was_given_is_the_sets_own(bench):
    given = picture(3, 64, 64)
    result = bench.generate(short(), panel("bg_to_fg_sd15", bg_image=given), go_on)
    shown = composed(result, result.saved[0], "The set's background", "", None)
    fg = from_u8(result.saved[0].image.image)
    np.testing.assert_allclose(shown, to_u8(composite(fg, from_u8(np.asarray(given)))), atol=1)
    alone = bench.generate(short(), panel("fg_attn_sd15"), go_on)
    board = composed(alone, alone.saved[0], "The set's background", "", None)
    np.testing.assert_array_equal(board, composed(alone, alone.saved[0], "Checkerboard", "", None))


def test_the_foreground_that_was_given_is_the_sets_own(bench):
    given = picture(4, 64, 64)
    result = bench.generate(short(), panel("fg_to_bg_sd15", fg_image=given), go_on)
    bg = result.saved[0]
    assert bg.layer is Layer.BG
    expected = to_u8(composite(from_u8(np.asarray(given)), from_u8(bg.image.image)))
    for chosen in result.saved:
        shown = composed(result, chosen, "The set's background", "", None)
        np.testing.assert_allclose(shown, expected, atol=1)


def test_a_set_without_foreground_shows_the_chosen_layer(bench):
    given = picture(3, 40, 80)
    result = bench.generate(short(), panel("bg_to_blended_sdxl", bg_image=given), go_on)
    (blended,) = result.saved
    shown = composed(result, blended, "The set's background", "", None)
    np.testing.assert_array_equal(shown, blended.image.image)


def test_a_chain_gives_the_layers_of_both_steps(bench):
    given = picture(3, 64, 64)
    values = panel("bg_to_blended_sdxl", bg_image=given, chain=True)
    result = bench.generate(short(sets=2), values, go_on)
    made = [(one.layer, one.image.set_index, one.image.seed) for one in result.saved]
    assert made == [(layer, n, 3 + n) for layer in (Layer.BLENDED, Layer.FG) for n in (0, 1)]
    assert [one.method for one in result.saved[1:3]] == [
        "bg_to_blended_sdxl",
        "bg_blended_to_fg_sdxl",
    ]
    assert [one.path.name for one in result.saved[::2]] == [
        "00000-3-blended.png",
        "00000-3-fg.png",
    ]
    last = result.saved[-1]
    bg = result.of_set(Layer.BG, last)
    np.testing.assert_allclose(bg[..., :3], _resized(given, bg.shape[:2]), atol=0.1)
    with pytest.raises(SettingsError, match="has no other layer to extract"):
        bench.generate(short(), panel("joint_sd15", chain=True), go_on)


def _resized(image: Image.Image, shape: tuple[int, int]) -> np.ndarray:
    return fit(from_u8(np.asarray(image)), shape[1], shape[0], ResizeMode.CROP)


@pytest.mark.parametrize(
    ("text", "colour"),
    [
        ("#ff8000", (255, 128, 0)),
        ("#f80", (255, 136, 0)),
        ("rgba(255, 127.6, 0, 1)", (255, 128, 0)),
        ("rgb(1,2,3)", (1, 2, 3)),
    ],
)
def test_colours_of_the_picker(text, colour):
    assert read_colour(text) == colour


@pytest.mark.parametrize("text", ["", "#ff", "red", "rgb(1,2)", "#ff80001"])
def test_what_is_no_colour(text):
    with pytest.raises(SettingsError, match="is no colour such as"):
        read_colour(text)


# The command


def test_the_command_serves_on_this_computer_only(monkeypatch, tmp_path, family):
    launched: dict[str, object] = {}
    monkeypatch.setenv("GRADIO_ANALYTICS_ENABLED", "False")
    monkeypatch.setattr(gr.Blocks, "launch", lambda self, **options: launched.update(options))
    monkeypatch.chdir(tmp_path)
    assert main(["studio", "--no-browser", "--out", "mine"]) == 0
    assert (launched["server_name"], launched["server_port"]) == ("127.0.0.1", None)
    assert (launched["share"], launched["inbrowser"]) == (False, False)
    assert launched["allowed_paths"] == [str(tmp_path / "mine")]
    assert launched["auth"] is None
    away = ["--address", "0.0.0.0", "--auth", "me:secret"]
    assert main(["studio", "--port", "7999", *away]) == 0
    assert (launched["server_name"], launched["server_port"]) == ("0.0.0.0", 7999)
    assert launched["auth"] == ("me", "secret")
    assert launched["inbrowser"] is True


def test_a_page_is_served(bench):
    import urllib.request

    page = studio.Page(bench)
    page.blocks.queue().launch(prevent_thread_lock=True, quiet=True, server_name="127.0.0.1")
    try:
        with urllib.request.urlopen(page.blocks.local_url) as answer:
            assert studio.TITLE in answer.read().decode()
    finally:
        page.blocks.close()
