"""Hosts that lack places that others have: for extra images, word of cuts, alpha in grids.

And samplers of theirs that tell less of their steps.
"""

from __future__ import annotations

from importlib import import_module
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from img2img_webui import Img2Img, ball
from PIL import Image

from lib_layerdiffuse.errors import MissingCapabilityError, SettingsError
from lib_layerdiffuse.methods import find_method
from lib_layerdiffuse.outputs import preview

FG, JOINT = find_method("fg_attn_sd15"), find_method("joint_sd15")
BESIDE = {"show_preview": True, "show_matte": True}
CHAINED = find_method("bg_to_blended_sdxl")


@pytest.fixture
def ui(webui, models, tmp_path):
    return Img2Img(models, tmp_path / "outputs")


def arrays(images):
    return [np.asarray(image) for image in images]


def same(images, others):
    assert len(images) == len(others)
    assert all(map(np.array_equal, arrays(images), arrays(others)))


@pytest.fixture
def one_list(ui, monkeypatch):
    """Returns a function that takes the place for extra images away."""

    def take_away():
        complete = ui.processing.Processed

        def incomplete(*args):
            processed = complete(*args)
            assert processed.extra_images == []
            del processed.extra_images
            return processed

        monkeypatch.setattr(ui.processing, "Processed", incomplete)

    return take_away


class TestExtraImages:
    def layers(self, result):
        return result.extra_generation_params["layerdiffusion_layers"]

    @pytest.mark.parametrize("pnginfo", [True, False])
    def test_they_come_after_the_layers_with_their_infotexts(self, ui, one_list, pnginfo):
        ui.shared.opts.data["enable_pnginfo"] = pnginfo
        apart, _ = ui.generate(JOINT, BESIDE, batch_size=2)
        one_list()
        result, _ = ui.generate(JOINT, BESIDE, batch_size=2)
        same(result.images, [*apart.images, *apart.extra_images])
        assert not hasattr(result, "extra_images")
        assert result.infotexts == [*apart.infotexts, *[apart.infotexts[i] for i in (0, 0, 3, 3)]]
        assert self.layers(result) == self.layers(apart)
        assert self.layers(result)[-4:] == ["fg-preview", "fg-matte"] * 2

    def test_a_chains_come_with_each_set(self, ui, one_list):
        apart, _ = ui.generate(CHAINED, {"chain": True, "show_matte": True})
        one_list()
        result, _ = ui.generate(CHAINED, {"chain": True, "show_matte": True})
        same(result.images, [*apart.images, *apart.extra_images])
        assert self.layers(result) == self.layers(apart)
        assert len(result.infotexts) == len(result.images)
        assert [text.partition("\n")[0] for text in result.infotexts[:2]] == [
            text.partition("\n")[0] for text in apart.infotexts
        ]

    @pytest.mark.parametrize("method", [FG, JOINT], ids=lambda m: m.id)
    def test_a_script_that_counts_images_gets_no_others(self, ui, one_list, method):
        one_list()
        matrix = ui.new_script(title=lambda self: "Prompt matrix")
        matrix.selectable = True
        p = ui.job(method, {"method": method.id} | BESIDE, before=[matrix], seed=7)
        p.prompt, p.seed, p.n_iter = ["a", "b"], [7, 7], 2
        p.script_args = (1, *p.script_args[1:])
        result = ui.run(p)
        assert len(result.images) == len(result.infotexts) == 2
        assert "this WebUI shows the grid alone" in result.comments
        assert sum("fg-matte" in name for name in ui.saved()) == 2

    def test_a_job_without_any(self, ui, one_list):
        one_list()
        result, _ = ui.generate(FG)
        assert len(result.images) == len(result.infotexts) == 1

    def test_an_api_that_sends_the_layers_alone_gets_all_in_one_list(self, ui, monkeypatch):
        """The page has a place for the others there."""
        apart, _ = ui.generate(JOINT, BESIDE)
        api = import_module("modules.api.api").Api
        monkeypatch.setattr(
            api, "text2imgapi", lambda self, request: self._answered(self._generate(request).images)
        )
        on_page, _ = ui.generate(JOINT, BESIDE)
        same(on_page.extra_images, apart.extra_images)
        result, _ = ui.generate(JOINT, BESIDE, is_api=True)
        same(result.images, [*apart.images, *apart.extra_images])
        assert result.extra_images == []
        assert len(result.infotexts) == len(result.images)


def test_a_chain_where_unipcs_order_is_no_setting(ui):
    options = import_module("modules.shared").opts
    del options.data_labels["uni_pc_order"]
    with pytest.raises(SettingsError, match="needs at least 3 sampling steps"):
        ui.generate(find_method("fg_to_blended_sdxl"), {"chain": True}, steps=2)


class TestGrid:
    def test_of_a_job_without_alpha_is_on_a_checkerboard(self, ui, monkeypatch):
        host = import_module("modules.images")

        def image_grid(imgs, batch_size=1, rows=None):
            params = import_module("modules.script_callbacks").ImageGridLoopParams(imgs, 3, 1)
            import_module("modules.script_callbacks").image_grid_callback(params)
            grid = Image.new("RGB", (3 * imgs[0].width, imgs[0].height))
            for i, image in enumerate(params.imgs):
                grid.paste(image, (i * image.width, 0))
            return grid

        monkeypatch.setattr(host, "image_grid", image_grid)
        kept = []

        def postprocess(self, p, processed, *_):
            kept.append(host.image_grid(processed.images))

        other = ui.new_script(postprocess=postprocess)
        result, _ = ui.generate(JOINT, before=[other])
        wanted = preview(np.asarray(result.images[0]))
        assert np.array_equal(np.asarray(kept[0])[:, :64], wanted)


@pytest.fixture
def silent(ui, monkeypatch):
    """Returns a function that makes the host tell nobody what it cuts and masks."""

    def silence():
        monkeypatch.setattr(ui.scripts.ScriptRunner, "before_process_init_images", lambda *_: None)

    return silence


def drawn(size=(128, 96), box=(40, 20, 72, 52)):
    image = Image.new("L", size)
    image.paste(255, box)
    return image


class TestMaskedPart:
    @pytest.mark.parametrize("fill", [0, 2])
    @pytest.mark.parametrize(
        "fields",
        [
            {"inpaint_full_res": True},
            {"inpaint_full_res": False},
            {"inpaint_full_res": False, "inpainting_mask_invert": 1, "resize_mode": 1},
            {"inpaint_full_res": True, "latent_mask": drawn((64, 64), (8, 8, 40, 40))},
        ],
        ids=["cut", "whole", "inverted", "latent mask"],
    )
    @pytest.mark.slow
    def test_is_the_same_as_told(self, ui, silent, fields, fill):
        fields = {"image_mask": drawn(), "inpainting_fill": fill, **fields}
        told, told_p = ui.run_img2img(FG, images=[ball((128, 96))], **fields)
        silent()
        found, found_p = ui.run_img2img(FG, images=[ball((128, 96))], **fields)
        assert np.array_equal(told_p.init_latent, found_p.init_latent)
        same(found.images, told.images)

    def test_without_a_mask_there_is_none(self, ui, silent):
        told, _ = ui.run_img2img(FG, images=[ball((128, 96))])
        silent()
        found, _ = ui.run_img2img(FG, images=[ball((128, 96))])
        same(found.images, told.images)

    def test_the_mask_is_blurred_as_the_host_blurs_it(self, ui):
        ui.job(FG)
        note = import_module("lib_layerdiffuse.webui.job.masked_part").note_masked_part
        init = SimpleNamespace(told=False, region=None, mask=None)
        p = SimpleNamespace(
            mask=0, paste_to=None, latent_mask=None, image_mask=drawn(), mask_round=True,
            inpainting_mask_invert=0, mask_blur_x=4, mask_blur_y=2, resize_mode=0,
            width=128, height=96,
        )  # fmt: skip
        note(p, SimpleNamespace(init=init))
        wanted = cv2.GaussianBlur(np.asarray(drawn()), (21, 1), 4)
        wanted = cv2.GaussianBlur(wanted, (1, 11), 2)
        assert np.array_equal(np.asarray(init.mask), wanted)
        assert 0 < wanted[18, 56] < 255


def test_no_change_map_where_the_original_is_laid_into_noise(ui, monkeypatch):
    """A1111's samplers by timesteps do so before each step, and tell no sigma."""
    job = import_module("img2img_job")
    made = job.Denoiser.__init__

    def by_timesteps(self, sigmas):
        made(self, sigmas)
        self.model_wrap_cfg.mask_before_denoising = True

    monkeypatch.setattr(job.Denoiser, "__init__", by_timesteps)
    script = ui.entry.DifferentialScript()
    p = ui.job(FG, False, before=[script], kind=job.Img2ImgJob, init_images=[ball()])
    args = list(p.script_args)
    args[script.args_from] = {"source": "Transparent part"}
    p.script_args, p.sampler_name = tuple(args), "DDIM"
    with pytest.raises(MissingCapabilityError, match="does not work with the sampler DDIM"):
        ui.run(p)
