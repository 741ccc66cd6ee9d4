"""Hires fix in stand-ins for the WebUI: both passes patched, and the second pass's true latent."""

from __future__ import annotations

from importlib import import_module

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from started_webui import SIZE, WebUI, picture, request
from thinned import thinned

from lib_layerdiffuse import pipeline
from lib_layerdiffuse.errors import (
    ArchMismatchError,
    CodecError,
    HostError,
    LayerDiffuseError,
    MissingCapabilityError,
)
from lib_layerdiffuse.imaging.colours import fill_hidden
from lib_layerdiffuse.imaging.images import from_u8, to_u8
from lib_layerdiffuse.methods import METHODS, Layer, find_method
from lib_layerdiffuse.nets.offset_encoder import OffsetEncoder

JOINT, FG_SD15, FG_SDXL = (find_method(i) for i in ("joint_sd15", "fg_attn_sd15", "fg_attn_sdxl"))
TO_FG, TO_BLENDED = find_method("bg_to_fg_sd15"), find_method("fg_to_blended_sdxl")


@pytest.fixture
def ui(webui, models, tmp_path):
    return WebUI(models, tmp_path / "outputs")


def hires(ui, method, more=None, **fields):
    """Returns a job with hires fix."""
    kind = import_module("hires_job").HiresProcessing
    return ui.job(method, request(method, **more or {}), kind=kind, **fields)


def checkpoint_file(folder, width):
    key = "model.diffusion_model.input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight"
    path = folder / f"width_{width}.safetensors"
    save_file({key: torch.zeros(4, width)} if width else {"a": torch.zeros(1)}, path)
    return path


def known(path):
    """Makes a file known to the WebUI as a checkpoint and returns its name."""
    info = type("Info", (), {"filename": str(path), "name_for_extra": path.stem})
    import_module("modules.sd_models").checkpoints[path.name] = info
    return path.name


def test_a_pass_is_not_put_on_the_one_before(ui):
    """Where both use the same objects of the host."""
    wanted = ui.run(hires(ui, TO_BLENDED))
    p = hires(ui, TO_BLENDED, renews_objects=False)
    result = ui.run(p)
    assert np.array_equal(result.images[0], wanted.images[0])
    plain = p.sd_model.forge_objects_original.unet
    assert p.sd_model.forge_objects.unet is plain
    assert all(unet is not plain for unet in p.sampled_with)


@pytest.mark.parametrize("method", thinned(METHODS, 5), ids=lambda m: m.id)
@pytest.mark.parametrize("latent", [True, False])
def test_every_method_makes_its_set_at_the_second_size(ui, method, latent):
    p = hires(ui, method, latent_upscaler=latent)
    result = ui.run(p)
    modes = ["RGBA" if layer is Layer.FG else "RGB" for layer in method.outputs]
    assert [image.mode for image in result.images] == modes
    assert {image.size for image in result.images} == {(2 * SIZE, 2 * SIZE)}
    assert len(p.sampled_with) == 2
    assert ui.plain not in p.sampled_with
    assert p.sampled_with[0] is not p.sampled_with[1]


def test_the_decoder_gets_the_second_pass_own_latents(ui, monkeypatch):
    seen = []

    def spy(decoder, host, pixels, vae_latent, **more):
        seen.append((pixels, vae_latent))
        return pipeline.decode(decoder, host, pixels, vae_latent, **more)

    monkeypatch.setattr(ui.script_module.results, "decode", spy)
    p = hires(ui, JOINT, batch_size=2, n_iter=2)
    ui.run(p)
    wanted = torch.cat(p.second_latents)[:: JOINT.frames]
    scale = ui.checkpoint.forge_objects.vae.first_stage_model.scaling_factor
    assert len(seen) == 4
    for (pixels, vae_latent), latent in zip(seen, wanted, strict=True):
        torch.testing.assert_close(vae_latent, latent / scale)
        assert pixels.shape == (3, 2 * SIZE, 2 * SIZE)


def test_pictures_to_start_from_are_fitted_to_each_pass_once(ui, monkeypatch):
    sizes = []

    def spy(settings, session, host, width, height):
        sizes.append((width, height))
        return pipeline.inject(settings, session, host, width, height)

    monkeypatch.setattr(ui.script_module.passes, "inject", spy)
    ui.run(hires(ui, TO_BLENDED, width=128, hr_scale=2.0, n_iter=2))
    assert sizes == [(128, 64), (256, 128)] * 2
    sizes.clear()
    ui.run(hires(ui, TO_BLENDED, hr_scale=1.0))  # Another checkpoint may bring another VAE.
    assert sizes == [(64, 64)] * 2


def test_hires_prompts_get_the_layers_own_and_stay_plain_in_the_infotext(ui):
    texts = {"fg_additional_prompt": "a cat", "blend_negative_prompt": "fog"}
    p = hires(ui, JOINT, texts, hr_prompt="a ship", hr_negative_prompt="noise", n_iter=2)
    ui.run(p)
    prompts, negatives = p.hires_conditioned_on[1]
    assert prompts == ["a cat, a ship", "a ship", "a ship"]
    assert negatives == ["noise", "noise", "fog, noise"]
    assert set(p.all_hr_prompts) == {"a ship"}
    assert p.conditioned_on[0][0][0] == "a cat, a boat"


def test_lists_of_prompts_count_sets_in_both_passes_again_and_again(ui):
    p = hires(ui, JOINT, prompt=["a", "b"], n_iter=2)
    for _ in range(2):
        p.hires_conditioned_on.clear()
        ui.run(p)
        assert [rows for rows, _ in p.hires_conditioned_on] == [["a"] * 3, ["b"] * 3]
        assert (p.prompt, p.hr_prompt) == (["a", "b"], "")


class TestRefused:
    def refused(self, ui, p, error):
        with pytest.raises(error) as caught:
            ui.run(p)
        assert ui.saved() == []
        return caught.value, p

    def test_a_checkpoint_of_another_family_is_known_before_sampling(self, ui, tmp_path):
        name = known(checkpoint_file(tmp_path, 2048))
        error, p = self.refused(ui, hires(ui, JOINT, hr_checkpoint_name=name), ArchMismatchError)
        assert "width_2048" in str(error)
        assert "SDXL" in str(error)
        assert p.sampled_with == []

    @pytest.mark.parametrize("width", [768, 0])
    def test_of_the_same_or_an_unknown_family_is_not(self, ui, tmp_path, width):
        name = known(checkpoint_file(tmp_path, width))
        other = ui.tiny.Checkpoint("SD1.5", seed=1)
        p = hires(ui, JOINT, hr_checkpoint_name=name, load_for_hires=other)
        assert [image.mode for image in ui.run(p).images] == ["RGBA", "RGB", "RGB"]
        assert p.sampled_with[1].model is other.forge_objects.unet.model

    def test_a_file_that_cannot_be_read_is_the_hosts_matter(self, ui, tmp_path):
        for file in ("a.ckpt", "b.safetensors", "none.safetensors"):
            (tmp_path / file).write_bytes(b"?")
            ui.run(hires(ui, FG_SD15, hr_checkpoint_name=known(tmp_path / file)))
        ui.run(hires(ui, FG_SD15, hr_checkpoint_name="unknown"))
        ui.run(hires(ui, FG_SD15, hr_checkpoint_name="Use same checkpoint"))

    def test_one_that_turns_out_to_be_of_another_family(self, ui, tmp_path):
        name = known(checkpoint_file(tmp_path, 0))
        other = ui.tiny.Checkpoint("SDXL")
        p = hires(ui, JOINT, hr_checkpoint_name=name, load_for_hires=other)
        _, p = self.refused(ui, p, ArchMismatchError)
        assert len(p.sampled_with) == 1

    def test_token_merging_in_the_second_pass(self, ui):
        p = hires(ui, JOINT, hires_token_merging_ratio=0.3)
        error, _ = self.refused(ui, p, MissingCapabilityError)
        assert "0.3" in str(error)

    def test_another_sampler_in_the_first_pass_alone(self, ui):
        def replace(self, p, *_, **__):
            if not p.is_hr_pass:
                p.sampler = type(p.sampler)()

        other = ui.new_script(process_before_every_sampling=replace)
        error, _ = self.refused(ui, hires(ui, JOINT, after=[other]), HostError)
        assert "another extension has replaced the UNet" in str(error)

    def test_a_second_pass_that_something_else_sampled(self, ui):
        def replace(self, p, *_):
            p.sampler = type(p.sampler)()

        late = ui.new_script(
            process_before_every_sampling=lambda self, p, *_, **__: (
                p.is_hr_pass and replace(self, p)
            )
        )
        error, _ = self.refused(ui, hires(ui, FG_SD15, after=[late]), HostError)
        assert "or its sampler" in str(error)


class TestUpscaleButton:
    def upscale(self, ui, method, image, **fields):
        fields = {"firstpass_image": image, "txt2img_upscale": True} | fields
        return hires(ui, method, **fields)

    def test_a_transparent_picture_starts_on_grey(self, ui):
        given = picture(alpha=128)
        p = self.upscale(ui, FG_SD15, given)
        started = []
        other = ui.new_script(
            before_hr=lambda self, p, *_: started.append(np.asarray(p.firstpass_image))
        )
        ui.runner.alwayson_scripts.append(other)
        result = ui.run(p)
        assert [(i.mode, i.size) for i in result.images] == [("RGBA", (2 * SIZE, 2 * SIZE))]
        rgba = np.asarray(given).astype(float) / 255
        wanted = rgba[..., :3] * rgba[..., 3:] + 0.5 * (1 - rgba[..., 3:])
        assert np.abs(started[0] / 255 - wanted).max() < 0.003
        assert len(p.sampled_with) == 1
        assert p.firstpass_image is given

    @pytest.mark.parametrize("latent", [True, False])
    def test_a_transparent_picture_is_encoded_with_its_transparency(self, ui, latent):
        ball = Image.fromarray(np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 4), np.uint8))
        p = self.upscale(ui, FG_SD15, ball, latent_upscaler=latent)
        started = []
        late = ui.new_script(
            process_before_every_sampling=lambda self, p, *_, x, **__: started.append(x.clone())
        )
        ui.runner.alwayson_scripts.append(late)
        ui.run(p)
        host = import_module("lib_layerdiffuse.hosts.detect").webui_host()(ui.checkpoint)
        encoder = ui.script_module.LayerDiffuseScript.session.encoder(FG_SD15.arch)
        rgba = from_u8(np.asarray(ball))
        if not latent:
            sides = 2 * SIZE, 2 * SIZE
            colours = Image.fromarray(to_u8(fill_hidden(rgba)[..., :3])).resize(
                sides, Image.LANCZOS
            )
            alpha = ball.getchannel("A").resize(sides, Image.LANCZOS)
            rgba = from_u8(np.dstack([np.asarray(colours), np.asarray(alpha)]))
        wanted = pipeline.encode(encoder, host, rgba)
        if latent:
            wanted = torch.nn.functional.interpolate(wanted, scale_factor=2, mode="bilinear")
        assert len(started) == 2
        for x in started:
            torch.testing.assert_close(x, wanted)

    def test_methods_without_transparency_start_from_what_the_host_has_made(self, ui, monkeypatch):
        monkeypatch.setattr(import_module("lib_layerdiffuse.webui.job.hires"), "encode", None)
        p = self.upscale(ui, TO_BLENDED, picture(alpha=128))
        assert [image.mode for image in ui.run(p).images] == ["RGB"]

    def test_a_full_memory_is_told(self, ui, monkeypatch):
        def full(*_):
            raise import_module("backend.memory_management").OOM_EXCEPTION

        monkeypatch.setattr(OffsetEncoder, "forward", full)
        with pytest.raises(CodecError, match="transparent encoder"):
            ui.run(self.upscale(ui, FG_SD15, picture(alpha=128)))

    def test_one_layer_of_a_set_is_refused(self, ui):
        p = self.upscale(ui, JOINT, picture())
        with pytest.raises(MissingCapabilityError, match="sets of 3"):
            ui.run(p)
        assert p.sampled_with == []

    def test_the_checkpoint_loaded_before_does_not_matter(self, ui):
        other = ui.tiny.Checkpoint("SD1.5")
        p = self.upscale(ui, FG_SD15, picture().convert("RGB"), load_for_hires=other)
        ui.checkpoint.is_sd1 = False
        assert [image.mode for image in ui.run(p).images] == ["RGBA"]

    def test_the_one_that_samples_does(self, ui):
        p = self.upscale(ui, FG_SD15, picture(), load_for_hires=ui.tiny.Checkpoint("SDXL"))
        with pytest.raises(LayerDiffuseError, match="needs an SD1"):
            ui.run(p)
        assert p.sampled_with == []
