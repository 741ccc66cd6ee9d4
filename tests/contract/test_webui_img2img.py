"""img2img from transparent images, in stand-ins for the WebUI's loop."""

from __future__ import annotations

from importlib import import_module
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from image_files import matrix_profile
from img2img_webui import Img2Img, ball, near, rgba_of
from PIL import Image
from started_webui import request
from thinned import thinned

from lib_layerdiffuse.errors import (
    BatchSizeError,
    CodecError,
    ImageSizeError,
    MissingLayerError,
    SettingsError,
    WeightsNotFoundError,
)
from lib_layerdiffuse.imaging.images import ResizeMode, as_rgba, fit, flatten, to_u8
from lib_layerdiffuse.imaging.reading import read_image
from lib_layerdiffuse.methods import ENCODERS, Arch, find_method
from lib_layerdiffuse.nets.offset_encoder import OffsetEncoder

FG, TO_FG, JOINT = (find_method(i) for i in ("fg_attn_sd15", "bg_to_fg_sd15", "joint_sd15"))
TO_BLENDED, FG_SDXL = find_method("bg_to_blended_sdxl"), find_method("fg_conv_sdxl")
MODES = [ResizeMode.STRETCH, ResizeMode.CROP, ResizeMode.FILL]


@pytest.fixture
def ui(webui, models, tmp_path):
    return Img2Img(models, tmp_path / "outputs")


class TestForeground:
    @pytest.mark.parametrize("method", thinned([FG, FG_SDXL], 2), ids=lambda m: m.id)
    @pytest.mark.parametrize("mode", [0, 1, 2])
    def test_begins_with_the_picture_and_its_alpha(self, ui, method, mode):
        result, p = ui.run_img2img(method, resize_mode=mode)
        fitted = fit(rgba_of(ball()), 64, 64, MODES[mode])
        near(p.began_with[0], ui.latent(method.arch, fitted))
        assert [image.mode for image in result.images] == ["RGBA"]

    @pytest.mark.parametrize("strength", [1, 0])
    def test_its_strength_is_an_option(self, ui, strength):
        ui.job(FG)
        ui.shared.opts.data["layerdiffuse_offset_strength"] = strength
        _, p = ui.run_img2img(FG, images=[ball((64, 64))])
        near(p.began_with[0], ui.latent(FG.arch, rgba_of(ball((64, 64))), strength))

    @pytest.mark.parametrize("mode", ["RGB", "L", "LA", "P", "PA"])
    def test_pictures_of_any_kind(self, ui, mode):
        image = ball((64, 64), mode=mode)
        _, p = ui.run_img2img(FG, images=[image])
        near(p.began_with[0], ui.latent(FG.arch, rgba_of(image)))

    @pytest.mark.parametrize("mode", ["I;16", "I"])
    def test_16_bits_of_grey(self, ui, mode):
        grey = np.linspace(0, 65535, 64 * 64).reshape(64, 64)
        image = Image.fromarray(grey.astype(np.uint16 if mode == "I;16" else np.int32))
        assert image.mode == mode
        _, p = ui.run_img2img(TO_FG, images=[image])
        rgb = np.repeat((grey / 65535).astype(np.float32)[..., None], 3, 2)
        near(p.began_with[0][:1], ui.latent(FG.arch, as_rgba(rgb)))
        assert {given.mode for given in p.given} <= {"RGB", "RGBA"}

    def test_a_turned_photograph(self, ui):
        image = ball((64, 48))
        image.getexif()[0x0112] = 6  # Its first row is the right edge.
        _, p = ui.run_img2img(JOINT, images=[image])
        upright = fit(rgba_of(image.transpose(Image.Transpose.ROTATE_270)), 64, 64, MODES[0])
        near(p.began_with[0][:1], ui.latent(FG.arch, upright))
        assert p.given[0].size == (48, 64)

    @pytest.mark.parametrize("what", ["a clear colour", "a clear grey", "a profile", "gamma"])
    def test_the_host_gets_what_is_read(self, ui, what):
        """Its own way of reading leaves out what these say of their numbers."""
        image = ball((64, 64), mode="L" if what == "a clear grey" else "RGB")
        image.info |= {
            "a clear colour": {"transparency": image.getpixel((3, 5))},
            "a clear grey": {"transparency": image.getpixel((3, 5))},
            "a profile": {"icc_profile": matrix_profile()},
            "gamma": {"gamma": 1.0},
        }[what]
        wanted = read_image(image)
        bare = Image.fromarray(np.asarray(image)).convert("RGBA")
        assert not np.array_equal(to_u8(wanted), np.asarray(bare))
        _, p = ui.run_img2img(JOINT, images=[image])
        near(p.began_with[0][:1], ui.latent(FG.arch, wanted))
        for given in p.given:
            assert np.array_equal(np.asarray(given.convert("RGBA")), to_u8(wanted))

    def test_what_needs_no_change_is_the_hosts_own(self, ui):
        for mode in ("RGB", "RGBA"):
            image = ball((64, 64), mode=mode)
            _, p = ui.run_img2img(JOINT, images=[image])
            wanted = (mode, image.tobytes())
            assert all((given.mode, given.tobytes()) == wanted for given in p.given)

    @pytest.mark.parametrize("size", [(4000, 8), (8, 4000)])
    def test_too_long_a_picture_to_be_fitted_in_is_told(self, ui, size):
        """The host would fit it in with no pixels across."""
        with pytest.raises(ImageSizeError, match="less than a pixel"):
            ui.run_img2img(FG, images=[ball(size)], resize_mode=2)
        result, _ = ui.run_img2img(FG, images=[ball(size)], resize_mode=1)
        assert result.images[0].size == (64, 64)

    def test_a_size_that_is_no_multiple_of_8(self, ui):
        """As folders ask for, whose images have sizes of their own; the host cuts them off."""
        result, p = ui.run_img2img(FG, width=70, height=69)
        fitted = fit(rgba_of(ball()), 70, 69, MODES[0])[:64, :64]
        near(p.began_with[0], ui.latent(FG.arch, fitted))
        assert result.images[0].size == (64, 64)

    def test_too_small_a_picture_for_latent_upscale_is_told(self, ui):
        with pytest.raises(ImageSizeError, match=r"7×40.*at least 8×8"):
            ui.run_img2img(FG, images=[ball((7, 40))], resize_mode=3)
        result, _ = ui.run_img2img(FG, images=[ball((7, 40))], resize_mode=1)
        assert result.images[0].size == (64, 64)

    @pytest.mark.parametrize("size", [(48, 40), (100, 76)])
    def test_latent_upscale(self, ui, size):
        _, p = ui.run_img2img(FG, images=[ball(size)], resize_mode=3)
        cut = rgba_of(ball(size))[: size[1] // 8 * 8, : size[0] // 8 * 8]
        small = ui.latent(FG.arch, cut)
        near(p.began_with[0], torch.nn.functional.interpolate(small, (8, 8), mode="bilinear"))

    def test_the_hosts_upscaler_enlarges_the_colours(self, ui, monkeypatch):
        images = import_module("modules.images")
        red = Image.new("RGB", (64, 64), (255, 0, 0))
        ui.shared.opts.data["upscaler_for_img2img"] = "any"
        monkeypatch.setattr(images, "resize_image", lambda *_: red)
        _, p = ui.run_img2img(FG, images=[ball((48, 48))])
        wanted = np.dstack(
            [np.asarray(red) / 255, fit(rgba_of(ball((48, 48))), 64, 64, MODES[0])[..., 3]]
        )
        near(p.began_with[0], ui.latent(FG.arch, wanted.astype(np.float32)))

    def test_a_host_that_encodes_in_half_precision_takes_no_digits(self, ui, monkeypatch):
        """TAESD does, whatever the VAE's precision."""
        networks = import_module("tiny_checkpoint").FirstStage
        inner = networks.process_in
        with monkeypatch.context() as half:
            half.setattr(networks, "process_in", lambda self, latent: inner(self, latent).half())
            half.setattr(
                import_module("lib_layerdiffuse.hosts.patchers").PatcherHost,
                "sampler_latent",
                lambda self, latent: inner(
                    self.sd_model.forge_objects.vae.first_stage_model, latent
                ),
            )
            _, p = ui.run_img2img(FG, images=[ball((64, 64))])
        near(p.began_with[0], ui.latent(FG.arch, rgba_of(ball((64, 64)))))

    def test_all_batches_begin_with_it(self, ui):
        _, p = ui.run_img2img(FG, images=[ball((64, 64))], n_iter=2, batch_size=2)
        wanted = ui.latent(FG.arch, rgba_of(ball((64, 64)))).expand(2, -1, -1, -1)
        for begun in p.began_with:
            near(begun, wanted)
        assert len(p.began_with) == 2

    def test_a_weight_of_0_keeps_the_transparency(self, ui):
        _, p = ui.run_img2img(FG, {"weight": 0}, images=[ball((64, 64))])
        near(p.began_with[0], ui.latent(FG.arch, rgba_of(ball((64, 64)))))


class TestOtherLayers:
    def test_begin_with_the_picture_on_grey(self, ui):
        _, p = ui.run_img2img(JOINT, images=[ball((64, 64))])
        rgba = rgba_of(ball((64, 64)))
        near(p.began_with[0][:1], ui.latent(JOINT.arch, rgba))
        flat = ui.flat(JOINT.arch, flatten(rgba))
        for row in (1, 2):
            near(p.began_with[0][row : row + 1], flat, atol=0.002)  # The host has 8 bits.

    @pytest.mark.parametrize("method", [TO_FG, TO_BLENDED], ids=lambda m: m.id)
    @pytest.mark.parametrize("mode", thinned([0, 1, 3], 3))
    def test_blended_begins_with_the_picture_on_the_given_background(self, ui, method, mode):
        _, p = ui.run_img2img(method, images=[ball((96, 72))], resize_mode=mode)
        size = (96, 72) if mode == 3 else (64, 64)
        fitted = fit(rgba_of(ball((96, 72))), *size, MODES[mode % 3])
        bg = flatten(np.full((1, 1, 4), (200 / 255, 30 / 255, 90 / 255, 128 / 255), np.float32))
        over = fitted[..., :3] * fitted[..., 3:] + bg * (1 - fitted[..., 3:])
        wanted = ui.flat(method.arch, over)
        if mode == 3:
            wanted = torch.nn.functional.interpolate(wanted, (8, 8), mode="bilinear")
        near(p.began_with[0][-1:], wanted, atol=0.002)

    def test_a_method_without_foreground_needs_no_encoder(self, ui, monkeypatch):
        monkeypatch.setattr(import_module("lib_layerdiffuse.pipeline").Session, "encoder", None)
        result, _ = ui.run_img2img(TO_BLENDED)
        assert len(result.images) == 1


class TestSeveralPictures:
    def test_each_begins_a_set(self, ui):
        images = [ball((64, 64), seed) for seed in (1, 2)]
        result, p = ui.run_img2img(JOINT, images=images, batch_size=4)
        assert [image.mode for image in result.images] == ["RGBA", "RGB", "RGB"] * 2
        for row, image in zip((0, 3), images, strict=True):
            near(p.began_with[0][row : row + 1], ui.latent(JOINT.arch, rgba_of(image)))
        assert p.batch_size == 4
        assert p.init_images == images

    def test_one_begins_every_set(self, ui):
        result, p = ui.run_img2img(JOINT, images=[ball((64, 64))], batch_size=2)
        assert len(result.images) == 6
        near(p.began_with[0][3], p.began_with[0][0])

    def test_in_an_api_list_they_count_rows(self, ui):
        kind = import_module("img2img_job").Img2ImgJob
        images = [ball((64, 64), seed) for seed in range(3)]
        p = ui.job(JOINT, True, JOINT.label, kind=kind, init_images=images, batch_size=3)
        p.is_api = True
        assert len(ui.run(p).images) == 3
        flats = [flatten(rgba_of(image)) for image in images]
        near(p.began_with[0][:1], ui.latent(JOINT.arch, rgba_of(images[0])))
        for row in (1, 2):
            near(p.began_with[0][row : row + 1], ui.flat(JOINT.arch, flats[row]), atol=0.002)
        p.init_images = images[:2]
        with pytest.raises(import_module("fastapi").HTTPException) as caught:
            ui.run(p)
        assert caught.value.detail["error"] == BatchSizeError.__name__

    def test_more_than_sets_are_refused(self, ui):
        with pytest.raises(BatchSizeError, match="2 init images for 1 sets"):
            ui.run_img2img(JOINT, images=[ball((64, 64)), ball((64, 64))])

    def test_a_folder_runs_on_one_object(self, ui):
        kind = import_module("img2img_job").Img2ImgJob
        p = ui.job(JOINT, request(JOINT), kind=kind, batch_size=2)
        for seed in (5, 6):
            image = ball((64, 64), seed)
            p.init_images = [image] * p.batch_size
            assert len(ui.run(p).images) == 6
            near(p.began_with[-1][3:4], ui.latent(JOINT.arch, rgba_of(image)))
            assert p.batch_size == 2

    def test_a_loop_carries_transparency_on(self, ui):
        result, p = ui.run_img2img(TO_FG, images=[ball((64, 64))])
        made = result.images[0]
        p.init_images = [made]
        ui.run(p)
        near(p.began_with[-1][:1], ui.latent(TO_FG.arch, rgba_of(made)))


class TestAround:
    @pytest.mark.parametrize("fault", ["encode", "inject"])
    def test_a_failed_job_gives_everything_back(self, ui, monkeypatch, fault):
        module = ui.script_module
        where = module.init_images if fault == "encode" else module.passes
        monkeypatch.setattr(where, fault, lambda *_, **__: 1 / 0)
        images = [ball()]
        kind = import_module("img2img_job").Img2ImgJob
        p = ui.job(JOINT, request(JOINT), kind=kind, init_images=images, batch_size=2)
        with pytest.raises(ZeroDivisionError):
            ui.run(p)
        assert p.init_images is images
        assert p.batch_size == 2
        assert p.began_with == []

    @pytest.mark.parametrize(
        ("images", "error"), [([None], MissingLayerError), ([np.zeros((2, 2, 7))], SettingsError)]
    )
    def test_no_picture_is_told(self, ui, images, error):
        with pytest.raises(error):
            ui.run_img2img(FG, images=images)
        assert ui.saved() == []

    def test_the_encoder_is_looked_for_before_sampling(self, webui, models, tmp_path):
        import shutil

        folder = shutil.copytree(models, tmp_path / "models") / "layer_model"
        (folder / ENCODERS[Arch.SD15].filename).unlink()
        ui = Img2Img(folder.parent, tmp_path / "outputs")
        kind = import_module("img2img_job").Img2ImgJob
        p = ui.job(FG, request(FG), kind=kind, init_images=[ball()])
        with pytest.raises(WeightsNotFoundError):
            ui.run(p)
        assert p.conditioned_on == []

    def test_a_full_memory_is_told(self, ui, monkeypatch):
        def full(*_):
            raise import_module("backend.memory_management").OOM_EXCEPTION

        monkeypatch.setattr(OffsetEncoder, "forward", full)
        with pytest.raises(CodecError, match="transparent encoder"):
            ui.run_img2img(FG)

    def test_a_job_without_a_step_is_no_fault(self, ui):
        """So little is to be changed that the sampler never calls the network."""
        result, p = ui.run_img2img(FG, images=[ball((64, 64))], denoising_strength=0)
        assert p.evaluated == []
        assert [image.mode for image in result.images] == ["RGBA"]

    def test_without_a_method_nothing_changes(self, ui):
        images = [ball((64, 64))]
        result, p = ui.run_img2img(FG, {"enabled": False}, images=images)
        assert p.given == images
        assert [image.mode for image in result.images] == ["RGB"]
        white = flatten(rgba_of(images[0]), 1.0)
        near(p.began_with[0], ui.flat(FG.arch, white), atol=0.002)


@pytest.mark.parametrize(("is_img2img", "mode"), [(True, "RGBA"), (False, "RGB")])
def test_the_tab_for_uploads_hands_over_alpha(ui, is_img2img, mode):
    script, slot = ui.entry.LayerDiffuseScript(), SimpleNamespace(image_mode="RGB")
    assert script.show(is_img2img) is ui.scripts.AlwaysVisible
    for elem_id, callback in vars(script).get("after_component", ()):
        assert elem_id == "img_inpaint_base"
        callback(SimpleNamespace(component=slot))
    assert slot.image_mode == mode
