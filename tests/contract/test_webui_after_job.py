"""Ways out of and back into a stand-in WebUI after a job: alpha stays, whoever made the image."""

from __future__ import annotations

import io
import json
import zipfile
from importlib import import_module
from types import SimpleNamespace

import numpy as np
import pytest
from img2img_webui import Img2Img, ball
from PIL import Image
from started_webui import WebUI, request

from lib_layerdiffuse.methods import find_method

JOINT, FG = find_method("joint_sd15"), find_method("fg_attn_sd15")
CHOSEN = [("Alpha", "png"), ("RGB", "png"), ("None", "jpg"), ("Alpha", "webp")]


@pytest.fixture
def ui(webui, models, tmp_path):
    started = Img2Img(models, tmp_path / "outputs")
    started.shared.opts.data["outdir_save"] = str(tmp_path / "saved")
    return started


@pytest.fixture(params=CHOSEN)
def kind(ui, request):
    """Returns the chosen format, with a place to hide infotexts that is chosen, too."""
    hidden, kind = request.param
    ui.shared.opts.data |= {"stealth_pnginfo_option": hidden, "samples_format": kind}
    return kind


@pytest.fixture
def host(ui):
    """The modules of the host that images go through."""
    names = ("images", "infotext_utils", "patches", "script_callbacks", "ui_common")
    return SimpleNamespace(**{name: import_module(f"modules.{name}") for name in names})


def clear(seed=0, side=16):
    """Returns an image with every value of alpha."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side, 4), np.uint8))


def solid(mode="RGBA", alpha=255):
    image = clear()
    image.putalpha(alpha)
    return image.convert(mode)


def pixels(source):
    with Image.open(source) as image:
        return np.asarray(image)


def shown(ui, result):
    """Returns a gallery's value, its images as they come from their files, and what is told."""
    images = [*result.images, *result.extra_images]
    told = {"infotexts": result.infotexts, "index_of_first_image": result.index_of_first_image}
    return [(Image.open(image.already_saved_as), None) for image in images], json.dumps(told)


class TestSaveAndZip:
    def test_a_foreground_keeps_its_alpha(self, ui, host, kind):
        result, _ = ui.generate(JOINT)
        made = [np.asarray(image) for image in result.images]
        gallery, told = shown(ui, result)
        (fg, *others), _ = host.ui_common.save_files(told, gallery, False, -1)
        assert np.array_equal(pixels(fg), made[0])
        assert fg.endswith(".png")
        assert all(name.endswith(kind) for name in others)

    def test_any_image_with_alpha_does_in_a_zip_too(self, host, kind):
        given = clear()
        wanted = np.asarray(given).copy()
        told = {"infotexts": ["a text"], "index_of_first_image": 0}
        saved = host.ui_common.save_files(json.dumps(told), [(given, None)], True, 0)
        (packed, _), _ = saved
        with zipfile.ZipFile(packed) as names:
            (name,) = names.namelist()
            found = pixels(io.BytesIO(names.read(name)))
        assert np.array_equal(found, wanted)

    @pytest.mark.parametrize("mode", ["LA", "P with alpha", "P with a clear colour"])
    def test_grey_and_palettes_with_alpha_do(self, host, mode, tmp_path):
        image = clear().convert("LA") if mode == "LA" else clear().quantize(8)
        if "colour" in mode:
            image = clear().convert("RGB").quantize(8)
            image.info["transparency"] = 3
        wanted = np.asarray(image.convert("RGBA"))
        name = host.images.save_image(image, str(tmp_path), "", extension="webp")
        with Image.open(name) as saved:
            assert np.array_equal(np.asarray(saved.convert("RGBA")), wanted)

    @pytest.mark.parametrize("alpha", [255, 254])
    def test_solid_images_are_saved_as_ever(self, host, alpha, tmp_path):
        """The host's own hidden infotexts leave values of 254."""
        image = solid(alpha=alpha)
        name = host.images.save_image(image, str(tmp_path), "", info="a text")
        assert pixels(name)[0, 0, 3] == 254
        name = host.images.save_image(image, str(tmp_path), "", extension="jpg")
        assert name.endswith(".jpg")

    @pytest.mark.parametrize("option", ["stealth_pnginfo_option", "stealth_pnginfo_opt"])
    def test_solid_foregrounds_are_saved_too_where_infotexts_go_into_colours(
        self, ui, host, tmp_path, option
    ):
        ui.shared.opts.data[option] = "RGB"
        name = host.images.save_image(solid(), str(tmp_path), "", info="a text")
        assert np.array_equal(pixels(name), np.asarray(solid()))

    def test_a_gallery_with_a_matte_is_saved_whole(self, ui, host):
        ui.shared.opts.data["return_grid"] = True
        result, _ = ui.generate(JOINT, {"show_matte": True})
        gallery = [(image, None) for image in (*result.images, *result.extra_images)]
        told = {"infotexts": result.infotexts, "index_of_first_image": 1}
        assert len(gallery) == len(result.infotexts) + 1
        names, _ = host.ui_common.save_files(json.dumps(told), gallery, False, 0)
        assert len(names) == len(gallery)
        (last,), _ = host.ui_common.save_files(json.dumps(told), gallery, False, len(gallery) - 1)
        assert np.array_equal(pixels(last)[..., :3], np.asarray(gallery[-1][0])[..., :3])


class TestSending:
    def test_an_image_by_itself_keeps_alpha(self, host):
        """PNG Info and histories hold one."""
        given = clear()
        assert host.infotext_utils.send_image_and_dimensions(given) == (given, 16, 16)

    def test_one_of_a_gallery_does(self, host):
        given = clear()
        assert host.infotext_utils.send_image_and_dimensions([(given, None)])[0] is given

    def test_solid_ones_go_as_ever(self, host):
        assert host.infotext_utils.send_image_and_dimensions(solid())[0].mode == "RGB"
        assert host.infotext_utils.send_image_and_dimensions(None) == (None, None, None)

    def test_slots_that_send_hand_alpha_over(self, ui, host):
        kinds = [("pil", "RGB"), ("pil", "L"), ("numpy", "RGB")]
        slots = [SimpleNamespace(type=kind, image_mode=mode) for kind, mode in kinds]
        gallery = SimpleNamespace()
        host.infotext_utils.registered_param_bindings += [
            SimpleNamespace(source_image_component=one) for one in (*slots, gallery, None)
        ]
        ui.serve(FG)
        assert [slot.image_mode for slot in slots] == ["RGBA", "L", "RGB"]
        assert not vars(gallery)


class TestBeginningWithoutAMethod:
    """No decoder runs, so alpha cannot be kept, and that is told."""

    @pytest.mark.parametrize("name", ["init_images", "firstpass_image"])
    def test_it_is_told_that_alpha_is_lost(self, ui, name):
        kind = import_module("img2img_job").Img2ImgJob
        for image, told in ((clear(), True), (solid(), False)):
            p = ui.job(FG, False, kind=kind)
            setattr(p, name, [image] if name == "init_images" else image)
            ui.runner.before_process(p)
            assert [text.startswith("The image's transparency is not") for text in p.comments] == (
                [True] * told
            )

    def test_a_method_says_nothing_of_it(self, ui):
        _, p = ui.run_img2img(FG)
        assert not p.comments


class TestReading:
    @pytest.mark.parametrize("form", ["LA", "palette", "clear grey"])
    def test_files_of_other_kinds_keep_alpha(self, host, form):
        stream = io.BytesIO()
        image = Image.new("L", (2, 1), 200)
        image.putpixel((0, 0), 7)
        if form == "LA":
            image.putalpha(Image.fromarray(np.array([[0, 255]], np.uint8)))
            image.save(stream, "PNG")
        elif form == "palette":
            image.convert("RGB").quantize(2).save(stream, "GIF", transparency=0)
        else:
            image.save(stream, "PNG", transparency=7)
        read = host.images.read(stream)
        assert read.mode == "RGBA"
        assert sorted(np.asarray(read)[0, :, 3]) == [0, 255]

    def test_texts_stay(self, host):
        image = clear().convert("LA")
        image.info = {"parameters": "a text", "transparency": 3, "gamma": 1 / 2.2}
        assert host.images.fix_image(image).info == {"parameters": "a text"}

    @pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
    def test_others_are_read_as_ever(self, host, mode):
        image = solid(mode)
        assert host.images.fix_image(image) is image


class TestOptions:
    def test_no_job_touches_them(self, ui):
        """The page may save them at any moment, and what it saves stays."""
        seen = []

        def note(*_, **__):
            seen.append(dict(ui.shared.opts.data))

        hooks = ("process", "before_process_init_images", "post_sample", "postprocess")
        other = ui.new_script(**dict.fromkeys(hooks, note))
        ui.generate(JOINT, after=[other])
        ui.run_img2img(JOINT, after=[other])
        assert len(seen) == 7
        assert all(one == dict(ui.shared.opts.data) for one in seen)

    def test_a_jobs_own_settings_are_the_users(self, ui):
        p = ui.job(JOINT, request(JOINT), override_settings={"samples_format": "webp"})
        ui.run(p)
        assert p.override_settings == {"samples_format": "webp"}

    def test_init_images_go_on_grey_and_are_saved_whole(self, ui, host, tmp_path):
        given = ball()
        given.info["parameters"] = "a text"
        wanted = np.asarray(given).copy()
        _, p = ui.run_img2img(FG, images=[given])
        (image,) = p.given
        for one, grey in ((image, 128), (given, 255)):  # The user's colour is other jobs'.
            assert host.images.flatten(one, "#ffffff").getpixel((95, 63)) == (grey,) * 3
        name = host.images.save_image(image, str(tmp_path), "", existing_info=dict(image.info))
        assert np.array_equal(pixels(name), wanted)


class TestExchange:
    def functions(self, host):
        stealth = import_module("modules.stealth_infotext")
        return [
            stealth.add_stealth_pnginfo,
            host.images.flatten,
            host.images.fix_png_transparency,
            host.images.save_image,
            host.infotext_utils.send_image_and_dimensions,
            host.ui_common.save_files,
        ]

    def test_the_hosts_functions_come_back(self, ui, host):
        ours = self.functions(host)
        host.script_callbacks.clear_callbacks()
        for function, inner in zip(ours, self.functions(host), strict=True):
            assert function.__wrapped__ is inner

    def test_loaded_again_they_are_exchanged_once(self, ui, models, tmp_path, host):
        WebUI(models, tmp_path / "outputs")
        assert not any(hasattr(one.__wrapped__, "__wrapped__") for one in self.functions(host))

    def test_a_webui_may_lack_them(self, ui, host, monkeypatch):
        host.script_callbacks.clear_callbacks()
        monkeypatch.delattr("modules.stealth_infotext.add_stealth_pnginfo")
        monkeypatch.setitem(__import__("sys").modules, "modules.ui_common", None)
        import_module("lib_layerdiffuse.webui.page.host_functions").exchange()
        assert hasattr(host.images.flatten, "__wrapped__")
