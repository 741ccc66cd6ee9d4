"""Inpainting of transparent images, in stand-ins for the WebUI's loop."""

from __future__ import annotations

from importlib import import_module

import numpy as np
import pytest
import torch
from img2img_webui import Img2Img, ball, near, rgba_of
from PIL import Image, ImageOps
from started_webui import as_base64
from thinned import thinned

from lib_layerdiffuse.errors import ImageSizeError, MissingCapabilityError, SettingsError
from lib_layerdiffuse.imaging.images import (
    ResizeMode,
    composite,
    fit,
    from_u8,
    matte,
    pad_colours,
    premultiply,
    to_u8,
)
from lib_layerdiffuse.methods import Layer, find_method

FG, TO_FG, JOINT = (find_method(i) for i in ("fg_attn_sd15", "bg_to_fg_sd15", "joint_sd15"))
TO_BLENDED = find_method("bg_to_blended_sdxl")


def mask(size=(64, 64), box=(24, 16, 48, 40), level=255):
    image = Image.new("L", size)
    image.paste(level, box)
    return image


def arrays(result):
    return [np.asarray(image) for image in result.images]


@pytest.fixture
def ui(webui, models, tmp_path):
    return Img2Img(models, tmp_path / "outputs")


@pytest.fixture
def decoded(ui, monkeypatch):
    """The foregrounds as they were decoded, before anything was put back."""
    ui.job(FG)
    seen, with_original = [], ui.script_module.results.with_original

    def spy(row, rgba_u8):
        seen.append(Image.fromarray(rgba_u8))
        return with_original(row, rgba_u8)

    monkeypatch.setattr(ui.script_module.results, "with_original", spy)
    return seen


class TestWholePicture:
    def test_outside_the_original_comes_back_bit_for_bit(self, ui, decoded):
        init = ball((64, 64))
        result, _ = ui.run_img2img(FG, images=[init], image_mask=mask())
        (image,), inside = arrays(result), np.asarray(mask()) == 255
        assert np.array_equal(image[~inside], np.asarray(init)[~inside])
        assert np.array_equal(image[inside], np.asarray(decoded[0])[inside])
        assert not np.array_equal(image[inside], np.asarray(init)[inside])

    def test_the_seam_is_mixed_premultiplied(self, ui, decoded):
        init = ball((64, 64))
        result, _ = ui.run_img2img(FG, images=[init], image_mask=mask(level=50))
        seam = np.asarray(mask()) == 255
        kept = 155 / 255  # The host doubles the mask for what it lays over.
        made, original = (premultiply(rgba_of(i)) for i in (decoded[0], init))
        wanted = made * (1 - kept) + original * kept
        got = premultiply(rgba_of(result.images[0]))
        assert np.abs(got - wanted)[seam].max() < 0.004

    @pytest.mark.parametrize("mode", [0, 1, 2, 3])
    def test_at_another_size_it_is_resized_once(self, ui, mode):
        init = ball((96, 80))
        result, _ = ui.run_img2img(
            FG, images=[init], image_mask=mask((96, 80), (60, 40, 70, 50)), resize_mode=mode
        )
        modes = [ResizeMode.STRETCH, ResizeMode.CROP, ResizeMode.FILL, ResizeMode.STRETCH]
        wanted = to_u8(fit(rgba_of(init), 64, 64, modes[mode]))
        assert result.images[0].size == (64, 64)
        assert np.array_equal(arrays(result)[0][:20, :20], wanted[:20, :20])
        part = np.s_[33:39, 41:46] if mode in (0, 3) else np.s_[:0]
        assert (arrays(result)[0][part] != wanted[part]).any(axis=2).all()

    def test_a_size_that_is_no_multiple_of_8(self, ui):
        init = ball((70, 69))
        result, _ = ui.run_img2img(
            FG, images=[init], image_mask=mask((70, 69)), width=70, height=69
        )
        image, outside = arrays(result)[0], np.asarray(mask((70, 69)))[:64, :64] == 0
        assert image.shape == (64, 64, 4)
        assert np.array_equal(image[outside], np.asarray(init)[:64, :64][outside])

    def test_every_set_gets_its_own_original(self, ui):
        images = [ball((64, 64), seed) for seed in (1, 2)]
        result, _ = ui.run_img2img(TO_FG, images=images, image_mask=mask(), batch_size=2)
        for row, init in zip((0, 2), images, strict=True):
            assert np.array_equal(arrays(result)[row][:10], np.asarray(init)[:10])
        assert [image.mode for image in result.images] == ["RGBA", "RGB"] * 2

    def test_around_the_mask_a_blended_picture_is_the_original_before_the_background(self, ui):
        init, bg = ball((64, 64)), ball((64, 64), seed=9).convert("RGB")
        given = {"bg_image": as_base64(bg)}
        result, _ = ui.run_img2img(TO_FG, given, images=[init], image_mask=mask(), batch_size=2)
        wanted = composite(rgba_of(init), from_u8(np.asarray(bg))) * 255
        outside = np.asarray(mask()) == 0
        for blended in arrays(result)[1::2]:
            assert np.abs(blended[outside] - wanted[outside]).max() <= 1

    def test_without_the_hosts_overlay_nothing_is_put_back(self, ui, decoded):
        ui.shared.opts.data["overlay_inpaint"] = False
        result, _ = ui.run_img2img(FG, images=[ball((64, 64))], image_mask=mask())
        assert np.array_equal(arrays(result)[0], np.asarray(decoded[0]))

    def test_another_scripts_soft_overlay_is_followed(self, ui):
        init = ball((64, 64))

        def soften(self, p, ppmo, *_):
            overlay = ppmo.overlay_image.copy()
            overlay.putalpha(Image.new("L", overlay.size, 255))
            ppmo.overlay_image = overlay

        other = ui.new_script(postprocess_maskoverlay=soften)
        result, _ = ui.run_img2img(FG, images=[init], image_mask=mask(), before=[other])
        assert np.array_equal(arrays(result)[0], np.asarray(init))


class TestOnlyMasked:
    BOX = (40, 20, 72, 52)

    def run(self, ui, **fields):
        images = [ball((128, 96))]
        fields = {"image_mask": mask((128, 96), self.BOX), "inpaint_full_res": True, **fields}
        return ui.run_img2img(FG, images=images, **fields)

    def test_a_size_that_is_no_multiple_of_8(self, ui):
        result, _ = self.run(ui, width=70, height=69)
        left, top, right, bottom = self.BOX
        image, init = arrays(result)[0], np.asarray(ball((128, 96)))
        kept = np.ones((96, 128), bool)
        kept[top:bottom, left:right] = False
        assert np.array_equal(image[kept], init[kept])
        assert not np.array_equal(image[~kept], init[~kept])

    def test_the_rest_comes_back_bit_for_bit_and_the_part_is_new(self, ui, decoded):
        result, p = self.run(ui)
        init, image = np.asarray(ball((128, 96))), arrays(result)[0]
        left, top, right, bottom = self.BOX
        inside = np.zeros((96, 128), bool)
        inside[top:bottom, left:right] = True
        assert np.array_equal(image[~inside], init[~inside])
        wanted = to_u8(fit(rgba_of(decoded[0]), 32, 32, ResizeMode.CROP))
        assert np.array_equal(image[top:bottom, left:right], wanted)
        part = rgba_of(ball((128, 96)))[top:bottom, left:right]
        near(p.began_with[0], ui.latent(FG.arch, fit(part, 64, 64, ResizeMode.FILL)))

    @pytest.mark.parametrize("edited", [False, True])
    def test_the_decoder_sees_what_was_sampled(self, ui, monkeypatch, edited):
        ui.job(FG)
        results, seen, floats = ui.script_module.results, [], []
        decode = results.decode

        def spy(decoder, host, pixels, *args, **more):
            seen.append(pixels)
            return decode(decoder, host, pixels, *args, **more)

        def edit(self, p, pp, *_):
            if edited:
                pp.image = Image.new("RGB", pp.image.size, (10, 20, 30))

        monkeypatch.setattr(results, "decode", spy)
        other = ui.new_script(
            postprocess_image=edit,
            postprocess_batch=lambda self, p, *_, images, **__: floats.append(images.clone()),
        )
        self.run(ui, before=[other])
        assert torch.equal(seen[0], floats[0][0])

    def test_a_mask_of_another_size_is_refused(self, ui):
        with pytest.raises(ImageSizeError, match="64×64 pixels, the init image 128×96"):
            self.run(ui, image_mask=mask())

    @pytest.mark.parametrize("mode", thinned(["Just Resize", "Crop and Resize"], 2))
    @pytest.mark.parametrize("method", [TO_FG, TO_BLENDED], ids=lambda m: m.id)
    def test_given_layers_are_cut_as_the_picture_is(self, ui, monkeypatch, method, mode):
        """Else the part of the foreground would stand before the whole background."""
        ui.job(method)
        passes, seen = ui.script_module.passes, []
        inject = passes.inject

        def spy(settings, *args):
            seen.append(settings.image(Layer.BG))
            return inject(settings, *args)

        monkeypatch.setattr(passes, "inject", spy)
        bg = ball((200, 96)).convert("RGB")
        ui.run_img2img(
            method,
            {"bg_image": as_base64(bg), "resize_mode": mode},
            images=[ball((128, 96))],
            image_mask=mask((128, 96), self.BOX),
            inpaint_full_res=True,
        )
        left, top, right, bottom = self.BOX
        whole = fit(rgba_of(bg), 128, 96, ResizeMode(mode))
        wanted = fit(whole[top:bottom, left:right], 64, 64, ResizeMode.FILL)
        np.testing.assert_allclose(seen[0], wanted, atol=1e-6)

    def test_a_chain_is_refused(self, ui):
        with pytest.raises(MissingCapabilityError, match="only the masked part is drawn") as caught:
            ui.run_img2img(
                TO_BLENDED,
                {"chain": True},
                images=[ball((128, 96))],
                image_mask=mask((128, 96), self.BOX),
                inpaint_full_res=True,
            )
        assert caught.value.field == "chain"

    def test_other_layers_are_the_hosts(self, ui):
        result, _ = ui.run_img2img(
            TO_FG,
            images=[ball((128, 96))],
            image_mask=mask((128, 96), self.BOX),
            inpaint_full_res=True,
        )
        assert [i.size for i in result.images] == [(128, 96)] * 2
        assert [i.mode for i in result.images] == ["RGBA", "RGB"]


class TestMaskedContent:
    @pytest.mark.parametrize("level", thinned([255, 128], 2))
    @pytest.mark.parametrize("fill", [2, 3])
    def test_noise_and_nothing(self, ui, fill, level):
        init = ball((64, 64))
        round_ = level == 255
        _, p = ui.run_img2img(
            FG,
            images=[init],
            image_mask=mask(level=level),
            inpainting_fill=fill,
            mask_round=round_,
            n_iter=2,
        )
        noise = import_module("modules.processing").create_random_tensors((4, 8, 8), [100])
        wanted = ui.latent(FG.arch, rgba_of(init)) * p.mask + (noise * p.nmask if fill == 2 else 0)
        for begun in p.began_with:
            near(begun, wanted)

    def test_fill(self, ui):
        init = ball((64, 64))
        _, p = ui.run_img2img(FG, images=[init], image_mask=mask(), inpainting_fill=0)
        fill = import_module("modules.masking").fill
        rgba = rgba_of(init)
        around = rgba * np.where([[[0, 0, 0, 1]]], rgba_of(ImageOps.invert(mask()))[..., :1], 1)
        parts = (composite(rgba, pad_colours(around)[..., :3]), matte(rgba))
        colour, alpha = (
            from_u8(np.asarray(fill(Image.fromarray(to_u8(part)), mask()))) for part in parts
        )
        filled = np.concatenate([colour, alpha[..., :1]], axis=2)
        near(p.began_with[0], ui.latent(FG.arch, filled))

    def test_fill_knows_nothing_of_what_is_under_the_mask(self, ui):
        one, other = np.asarray(ball((64, 64))), np.asarray(ball((64, 64))).copy()
        other[16:40, 24:48] = (250, 10, 90, 255)
        begun = [
            ui.run_img2img(
                FG, images=[Image.fromarray(picture)], image_mask=mask(), inpainting_fill=0
            )[1].began_with[0]
            for picture in (one, other)
        ]
        near(*begun)

    def test_other_layers_keep_the_hosts(self, ui):
        _, p = ui.run_img2img(JOINT, images=[ball((64, 64))], image_mask=mask(), inpainting_fill=3)
        under = p.nmask.bool().expand(3, -1, -1, -1)
        assert (p.began_with[0][under] == 0).all()
        assert (p.began_with[0][1:][:, ~p.nmask.bool()] != 0).any()


class TestOwnAlpha:
    @pytest.mark.parametrize("source", ["Visible part", "Transparent part"])
    @pytest.mark.parametrize("drawn", [False, True])
    def test_redraws_a_part(self, ui, decoded, source, drawn):
        init = ball((64, 64))
        alpha = np.asarray(init)[..., 3]
        held = alpha == (0 if source == "Visible part" else 255)
        result, p = ui.run_img2img(
            FG,
            {"mask_source": source},
            images=[init],
            image_mask=mask() if drawn else None,
            inpainting_mask_invert=1,
        )
        image = arrays(result)[0]
        assert 50 < held.sum() < 4000
        assert np.array_equal(image[held], np.asarray(init)[held])
        free = alpha == (255 if source == "Visible part" else 0)
        assert np.array_equal(image[free], np.asarray(decoded[0])[free])
        assert (p.image_mask is None) is not drawn
        assert p.mask is p.nmask is p.mask_for_overlay is p.overlay_images is None
        assert p.inpainting_mask_invert == 1
        assert f"layerdiffusion_mask_source: {source}" in result.infotexts[0]

    def test_pictures_of_several_shapes_are_refused(self, ui):
        images = [ball((64, 64)), ball((64, 64)).rotate(180)]
        with pytest.raises(SettingsError, match="differ in transparency") as caught:
            ui.run_img2img(FG, {"mask_source": "Visible part"}, images=images, batch_size=2)
        assert caught.value.field == "mask_source"

    def test_an_opaque_picture_has_no_transparent_part(self, ui):
        opaque = ball((64, 64)).convert("RGB")
        with pytest.raises(SettingsError, match="transparent part"):
            ui.run_img2img(FG, {"mask_source": "Transparent part"}, images=[opaque])

    def test_in_txt2img_it_does_nothing(self, ui):
        result, _ = ui.generate(FG, {"mask_source": "Visible part"})
        assert result.images[0].mode == "RGBA"
