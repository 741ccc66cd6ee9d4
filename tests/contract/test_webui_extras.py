"""The Extras tab of stand-ins: whatever scripts run, a transparent image stays transparent."""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module

import numpy as np
import pytest
from PIL import Image
from started_webui import WebUI

from lib_layerdiffuse.errors import MissingCapabilityError
from lib_layerdiffuse.imaging.colours import fill_hidden
from lib_layerdiffuse.imaging.images import from_u8, to_u8


@pytest.fixture
def ui(webui, models, tmp_path):
    return WebUI(models, tmp_path / "outputs")


def transparent(seed=0, side=16):
    rgba = np.random.default_rng(seed).integers(0, 256, (side, side, 4), np.uint8)
    rgba[:4, :, 3], rgba[-4:, :, 3] = 0, 255
    return Image.fromarray(rgba)


class Extras:
    """Scripts of the host beside ours."""

    def __init__(self, ui, *others):
        self.host = import_module("modules.scripts_postprocessing")
        self.ours = ui.entry.KeepTransparency()
        self.runner = self.host.ScriptPostprocessingRunner([*others, self.ours])
        import_module("modules.scripts").scripts_postproc = self.runner

    def run(self, image, **args):
        pp = self.host.PostprocessedImage(image)
        self.runner.run(pp, args)
        return pp


def script(name, process, order=1000):
    host = import_module("modules.scripts_postprocessing")
    body = {"name": name, "order": order, "process": process}
    return type("Other", (host.ScriptPostprocessing,), body)()


def upscale(self, pp, **args):
    """Doubles an image as an upscaler that knows RGB only."""
    pp.image = pp.image.convert("RGB").resize([2 * side for side in pp.image.size], Image.LANCZOS)


def restore(self, pp, **args):
    pp.image = Image.fromarray(255 - np.asarray(pp.image.convert("RGB")))


def doubled(channel):
    return np.asarray(channel.resize([2 * side for side in channel.size], Image.LANCZOS)).astype(
        int
    )


@pytest.mark.parametrize("order", [500, 1500])
def test_colour_and_alpha_are_upscaled_apart(ui, order):
    given = transparent()
    pp = Extras(ui, script("Upscale", upscale, order)).run(given)
    got = np.asarray(pp.image).astype(int)
    assert pp.image.mode == "RGBA"
    assert np.abs(got[..., 3] - doubled(given.getchannel("A"))).max() <= 2
    colours = Image.fromarray(to_u8(fill_hidden(from_u8(np.asarray(given)))[..., :3]))
    assert np.array_equal(got[..., :3], doubled(colours))
    assert pp.info["Keep transparency"] == "Keep transparency"


def test_hidden_colours_are_continued_once(ui):
    """A script that does nothing must not change them again, which takes seconds, too."""
    given = transparent()
    idle = [script(name, lambda self, pp, **_: None, order) for name, order in (("A", 1), ("B", 9))]
    upscaled = Extras(ui, script("Upscale", upscale, 5)).run(given)
    got = Extras(ui, idle[0], script("Upscale", upscale, 5), idle[1]).run(given)
    assert np.array_equal(np.asarray(got.image), np.asarray(upscaled.image))


def test_clear_and_solid_stay_so_where_an_upscaler_just_misses(ui):
    def sloppy(self, pp, **args):
        upscale(self, pp)
        pp.image = pp.image.point([min(253, max(2, v)) for v in range(256)] * 3)

    given = transparent()
    pp = Extras(ui, script("Upscale", sloppy)).run(given)
    alpha = np.asarray(pp.image)[..., 3]
    assert (alpha[:4] == 0).all()
    assert (alpha[-4:] == 255).all()
    assert np.abs(alpha.astype(int) - doubled(given.getchannel("A"))).max() <= 2


def test_what_changes_colours_alone_leaves_alpha_bit_for_bit(ui):
    given = transparent()
    pp = Extras(ui, script("GFPGAN", restore), script("CodeFormer", restore)).run(given)
    got, before = np.asarray(pp.image), np.asarray(given)
    assert np.array_equal(got[..., 3], before[..., 3])
    visible = before[..., 3] > 0
    assert np.array_equal(got[visible], before[visible])  # Inverted twice.


def test_all_together(ui):
    given = transparent()
    pp = Extras(ui, script("GFPGAN", restore, 2000), script("Upscale", upscale)).run(given)
    alone = Extras(ui, script("Upscale", upscale)).run(given)
    got, wanted = np.asarray(pp.image), np.asarray(alone.image)
    assert np.array_equal(got[..., 3], wanted[..., 3])
    visible = wanted[..., 3] > 0
    assert np.array_equal(got[visible][:, :3], 255 - wanted[visible][:, :3])


@pytest.mark.parametrize("keep", [True, None])
def test_on_unless_it_is_turned_off(ui, keep):
    extras = Extras(ui, script("Upscale", upscale))
    args = {"Keep transparency": {"keep": keep}}
    assert extras.run(transparent(), **args).image.mode == "RGBA"
    off = extras.run(transparent(), **{"Keep transparency": {"keep": False}})
    assert off.image.mode == "RGB"
    assert "Keep transparency" not in off.info


class TestColoursAlone:
    """One host takes alpha off before the first step, once it has read the image's infotext."""

    @pytest.fixture
    def given(self, ui):
        functions = import_module("lib_layerdiffuse.webui.page.host_functions")
        functions.exchange()
        image = transparent()
        image.info["parameters"] = "a glass ball"
        images = import_module("modules.images")
        assert images.read_info_from_image(image) == ("a glass ball", {})
        assert images.read_info_from_image(image) == ("a glass ball", {}), "it is read as it was"
        yield image.convert("RGB")
        functions.give_back()

    def test_alpha_is_found_again(self, ui, given):
        made = Extras(ui, script("Upscale", upscale)).run(given).image
        assert made.mode == "RGBA"
        assert not made.info.keys() - {"parameters"}
        solid = doubled(transparent().getchannel("A")) == 255
        assert (np.asarray(made)[..., 3][solid] == 255).all()

    def test_unless_it_is_not_wanted(self, ui, given):
        extras = Extras(ui, script("Upscale", upscale))
        off = extras.run(given, **{"Keep transparency": {"keep": False}})
        assert off.image.mode == "RGB"
        assert off.image.info == {"parameters": "a glass ball"}


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_other_pictures_are_processed_as_ever(ui, mode):
    seen = []

    def note(self, pp, **args):
        seen.append(pp.image)

    given = transparent().convert("RGB").convert(mode)
    pp = Extras(ui, script("Upscale", note)).run(given)
    assert seen == [given]
    assert pp.info == {}


def test_what_changes_the_shape_in_ways_of_its_own_is_refused(ui):
    def crop(self, pp, **args):
        pp.image = pp.image.crop((0, 0, 8, 8))

    def multiply(self, pp, **args):
        pp.extra_images.append(pp.create_copy(pp.image.rotate(180)))

    for process in (crop, multiply):
        extras = Extras(ui, script("Auto crop", process))
        with pytest.raises(MissingCapabilityError, match="Auto crop"):
            extras.run(transparent(), **{"Keep transparency": {"keep": True}})
        assert extras.run(transparent().convert("RGB")).image.mode == "RGB"


class TestWhatOthersFind:
    """Their methods are ours for one call of a run, and their own at any other time."""

    @staticmethod
    def methods(extras):
        return [vars(one).get("process") for one in extras.runner.scripts]

    def test_after_a_run(self, ui):
        seen = []

        def look(self, pp, **args):
            seen.append("process" in vars(self))

        extras = Extras(ui, script("Upscale", upscale), script("Look", look, 2000))
        extras.run(transparent())
        assert self.methods(extras) == [None] * 3
        assert seen == [False]
        extras.run(transparent())
        assert self.methods(extras) == [None] * 3

    @pytest.mark.parametrize("how", ["fails", "is skipped"])
    def test_after_a_run_that_does_not_end(self, ui, how):
        def stop(self, pp, **args):
            if how == "fails":
                raise ValueError
            extras.runner.skipped = True

        extras = Extras(ui, script("Stop", stop, 1), script("Upscale", upscale))
        with suppress(ValueError):
            extras.run(transparent())
        assert self.methods(extras) == [None] * 3

    def test_a_method_that_another_has_put_on_a_script_stays(self, ui):
        seen = []
        other = script("Upscale", upscale)
        other.process = mine = lambda pp, **args: seen.append(pp.image.mode)
        extras = Extras(ui, other)
        extras.run(transparent())
        assert seen == ["RGB"]
        assert other.process is mine

    def test_scripts_that_are_off_are_left_alone(self, ui):
        extras = Extras(ui, script("Upscale", upscale), script("Off", restore))
        extras.runner.off = {"Off"}
        seen = []
        extras.ours.process = lambda pp, **args: seen.append(self.methods(extras)[-1])
        extras.run(transparent())
        assert self.methods(extras)[-1] is None
        assert seen == [None]


def test_the_api_is_told_which_script_does_not_keep_transparency(ui):
    def crop(self, pp, **args):
        pp.image = pp.image.crop((0, 0, 8, 8))

    http_exception = import_module("fastapi").HTTPException
    extras = Extras(ui, script("Auto crop", crop))
    with pytest.raises(http_exception) as caught:
        extras.run(transparent(), **{"Keep transparency": {"keep": None}})
    assert caught.value.status_code == 422
    assert "Auto crop" in caught.value.detail["message"]


class TestSaving:
    @pytest.mark.parametrize("hidden", ["Alpha", "RGB"])
    def test_hidden_infotext_does_not_erase_alpha(self, ui, hidden):
        ui.shared.opts.data["stealth_pnginfo_option"] = hidden
        extras = Extras(ui, script("Upscale", upscale))
        pp = extras.run(transparent())
        alpha = np.asarray(pp.image)[..., 3].copy()
        name = extras.host.save(pp, str(ui.outputs))
        with Image.open(name) as saved:
            assert np.array_equal(np.asarray(saved)[..., 3], alpha)
        assert np.array_equal(np.asarray(pp.image)[..., 3], alpha)

    @pytest.mark.parametrize("kind", ["jpg", "webp"])
    def test_it_is_saved_as_png(self, ui, kind):
        ui.shared.opts.data["samples_format"] = kind
        extras = Extras(ui, script("Upscale", upscale))
        kept = extras.run(transparent(), **{"Keep transparency": {"keep": True}})
        assert extras.host.save(kept, str(ui.outputs)).endswith(".png")
        plain = extras.run(transparent().convert("RGB"))
        assert extras.host.save(plain, str(ui.outputs)).endswith(f".{kind}")

    def test_the_api_has_to_send_png(self, ui):
        ui.shared.opts.data["samples_format"] = "jpg"
        extras = Extras(ui, script("Upscale", upscale))
        http_exception = import_module("fastapi").HTTPException
        with pytest.raises(http_exception) as caught:
            extras.run(transparent())
        assert caught.value.status_code == 422
        assert "as jpg, without its transparency" in caught.value.detail["message"]
        assert extras.run(transparent().convert("RGB")).image.mode == "RGB"
