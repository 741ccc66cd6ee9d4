"""The nodes for ComfyUI that no other pack has."""

from __future__ import annotations

from importlib import import_module
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from adapters import run
from comfy_nodes import is_blocked, nodes, rand
from host_run import HIGH, differs, near
from lent_webui import models
from thinned import thinned

from lib_layerdiffuse.errors import (
    BatchSizeError,
    ImageSizeError,
    MissingLayerError,
    SettingsError,
)
from lib_layerdiffuse.methods import METHODS, Layer, find_method

__all__ = ["models", "nodes", "run"]
pytestmark = pytest.mark.parametrize("run", ["comfy"], indirect=True)

EVERY_METHOD = pytest.mark.parametrize("method", thinned(METHODS, 3), ids=lambda method: method.id)
JOINT, WIDER = find_method("joint_sd15"), find_method("fg_blended_to_bg_sdxl")
CONTROL, SDXL_FG = find_method("bg_to_fg_sd15"), find_method("fg_attn_sdxl")
CHOICES = {"weight": 1.0, "stop_at": 1.0, "resize_mode": "Crop and Resize"}


def given_images(method, height=64, width=64, channels=4):
    return {
        layer.value: rand(1, height, width, channels, seed=number)
        for number, layer in enumerate(method.inputs)
    }


def apply(run, nodes, method, **more):
    """Returns what the method's node gives for a new MODEL."""
    vae = run.open(method).host.vae
    given = {"method": method.label, "vae": vae, **CHOICES, **given_images(method), **more}
    return nodes["LayerDiffuseMethod"].execute(run.plain, **given).args


class TestMethod:
    @EVERY_METHOD
    def test_it_draws_what_the_pipeline_injects(self, run, nodes, method):
        made, settings, frames = apply(run, nodes, method)
        assert settings.method is method
        assert frames == method.frames
        differs(run.sample(made, (HIGH,), frames), run.sample(run.plain, (HIGH,), frames))
        tools = nodes["LayerDiffuseMethod"].tools()
        pipeline = import_module("lib_layerdiffuse.pipeline")
        host = tools.host(run.plain, run.host.vae)
        wanted = host.attach(pipeline.inject(settings, tools.session, host, 64, 64)).unet
        found = run.sample(made, (HIGH,), frames)
        assert torch.equal(found, run.sample(wanted, (HIGH,), frames))
        run.assert_as_before()

    @pytest.mark.parametrize("method", [CONTROL, WIDER], ids=lambda method: method.id)
    def test_images_are_fitted_to_the_latent(self, run, nodes, method):
        wide = given_images(method, 40, 104)
        latent = {"samples": torch.zeros(1, 4, 8, 8)}
        made, *_ = apply(run, nodes, method, latent=latent, **wide)
        assert run.sample(made, (HIGH,), method.frames).isfinite().all()
        made, *_ = apply(run, nodes, method, **wide)
        with pytest.raises(ImageSizeError, match="104×40"):
            run.sample(made, (HIGH,), method.frames)

    def test_a_mask_is_the_images_alpha(self, run, nodes):
        (image,) = given_images(CONTROL).values()
        one, *_ = apply(run, nodes, CONTROL, bg=image)
        apart = {"bg": image[..., :3], "bg_mask": 1 - image[..., 3]}
        two, *_ = apply(run, nodes, CONTROL, **apart)
        near(run.sample(one, (HIGH,), 2), run.sample(two, (HIGH,), 2))

    def test_layers_have_prompts_of_their_own(self, run, nodes):
        cond = [[run.tiny.conditioning(["a bottle"]), {}]]
        plain, *_ = apply(run, nodes, JOINT)
        own, *_ = apply(run, nodes, JOINT, bg_cond=cond)
        found, without = (run.sample(one, (HIGH,), 3) for one in (own, plain))
        differs(found, without)

    def test_what_is_missing_is_named_by_its_input(self, run, nodes):
        with pytest.raises(MissingLayerError, match="Connect one to blended"):
            apply(run, nodes, WIDER, blended=None)
        with pytest.raises(SettingsError, match="to vae"):
            apply(run, nodes, WIDER, vae=None)
        with pytest.raises(ImageSizeError, match="fg is a batch of 2"):
            apply(run, nodes, WIDER, fg=rand(2, 64, 64, 3))

    def test_a_sampler_gets_whole_sets(self, run, nodes):
        (latent,) = nodes["LayerDiffuseEmptyLatent"].execute(64, 40, 2, JOINT.label).args
        assert latent["samples"].shape == (6, 4, 5, 8)


def decode(run, nodes, method, *, sets=2, given=None, **more):
    """Returns what the decoder gives for samples of a method."""
    vae = run.open(method).host.vae
    images = given_images(method) if given is None else given
    _, settings, _ = apply(run, nodes, method, **images)
    latent = torch.randn(sets * method.frames, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    pixels = rand(sets * method.frames, 64, 64, 3, seed=2)
    more = {"images": pixels, "views": 1, "vae": vae} | more
    made = nodes["LayerDiffuseDecode"].execute({"samples": latent}, settings, **more)
    return made.args, pixels


class TestDecode:
    @EVERY_METHOD
    def test_each_layer_comes_out_at_its_own_output(self, run, nodes, method):
        outputs, pixels = decode(run, nodes, method)
        (fg, bg, blended, mask), report = outputs[:4], outputs[4]
        there = {*method.inputs, *method.outputs}
        for layer, found in zip(Layer, (fg, bg, blended), strict=True):
            assert is_blocked(found) is (layer not in there)
            if layer in method.outputs and layer is not Layer.FG:
                frame = method.outputs.index(layer)
                np.testing.assert_allclose(found, pixels[frame :: method.frames], atol=3e-3)
            elif layer in there:
                assert found.shape[:3] == (2, 64, 64)
        if method.decodes:
            assert fg.shape == (2, 64, 64, 4)
            assert torch.equal(mask, 1 - fg[..., 3])
            assert len(report.splitlines()) == 2
        else:
            assert report == "The method makes no foreground."

    def test_a_vae_decodes_what_is_not_decoded_yet(self, run, nodes):
        calls = []

        class Vae:
            def decode(self, latent):
                calls.append(latent.shape)
                return rand(len(latent), 64, 64, 3)

        outputs, _ = decode(run, nodes, JOINT, images=None, vae=Vae())
        assert calls == [(6, 4, 8, 8)]
        assert outputs[0].shape == (2, 64, 64, 4)
        with pytest.raises(SettingsError, match="VAE to vae"):
            decode(run, nodes, JOINT, images=None, vae=None)

    def test_what_alpha_amounts_to_is_reported(self, run, nodes, monkeypatch):
        tools = type(nodes["LayerDiffuseDecode"].tools())
        for alpha, said in ((255, "opaque all over"), (0, "empty"), (128, "transparent")):
            image = np.full((64, 64, 4), alpha, np.uint8)
            monkeypatch.setattr(tools, "decode", lambda *_, image=image: [image])
            outputs, _ = decode(run, nodes, SDXL_FG, sets=1)
            assert said in outputs[4]

    def test_the_document_has_every_layer_in_its_place(self, run, nodes):
        outputs, _ = decode(run, nodes, WIDER, sets=1)
        document = outputs[5]
        assert document["version"] == 1
        assert document["canvas"] == (64, 64)
        names = [layer["name"] for layer in document["layers"]]
        assert names == ["Background", "Foreground", "Blended"]
        assert [layer["visible"] for layer in document["layers"]] == [True, True, False]
        assert [layer["z_index"] for layer in document["layers"]] == [0, 1, 2]
        assert document["layers"][1]["image"].shape == (1, 64, 64, 4)

    def test_a_batch_of_no_whole_sets_is_refused(self, run, nodes):
        with pytest.raises(BatchSizeError, match="whole sets of 3"):
            decode(run, nodes, JOINT, images=rand(4, 64, 64, 3))


class TestEncode:
    def encode(self, run, nodes, image, **more):
        vae = run.open(SDXL_FG).host.vae
        given = {"vae": vae, "family": "SDXL", "strength": 300.0} | more
        return nodes["LayerDiffuseEncode"].execute(image, **given).args[0]["samples"]

    def test_it_is_on_the_scale_of_comfyuis_latents(self, run, nodes):
        image = rand(2, 64, 40, 4)
        found = self.encode(run, nodes, image, strength=0.0)
        assert found.shape == (2, 4, 8, 5)
        flat = image[..., :3] * image[..., 3:] + 0.5 * (1 - image[..., 3:])
        mean, _ = run.vae_makes(flat.movedim(-1, 1))
        near(found, mean, 1e-4)

    def test_alpha_is_in_it(self, run, nodes):
        image = rand(1, 64, 64, 4)
        found = self.encode(run, nodes, image)
        differs(found, self.encode(run, nodes, image, strength=0.0))
        apart = self.encode(run, nodes, image[..., :3], mask=1 - image[..., 3])
        near(apart, found, 1e-4)


class TestDifferential:
    def free(self, run, nodes, sigma, sigmas):
        run.open(SDXL_FG)
        (made,) = nodes["LayerDiffuseDifferential"].execute(run.plain).args
        function = made.model_options["denoise_mask_function"]
        change = torch.linspace(0, 1, 11).view(1, 1, 1, 11)
        model = SimpleNamespace(inner_model=run.plain.model)
        more = {"model": model, "sigmas": torch.tensor(sigmas)}
        return function(torch.tensor([sigma]), change, more)[0, 0, 0].tolist()

    def test_each_part_is_free_for_its_share_of_the_run(self, run, nodes):
        top, middle, low = (run.tiny.Predictor.sigmas[i].item() for i in (999, 500, 0))
        of = [top, middle, low, 0.0]
        assert self.free(run, nodes, top, of) == [0.0] * 10 + [1.0]
        assert self.free(run, nodes, middle, of) == [0.0] * 6 + [1.0] * 5
        assert self.free(run, nodes, low, of) == [0.0] + [1.0] * 10

    def test_the_model_itself_is_left_alone(self, run, nodes):
        self.free(run, nodes, 1.0, [2.0, 1.0, 0.0])
        run.assert_as_before()


class TestPrompts:
    def test_rows_are_the_layers_in_their_order(self, run, nodes):
        run.open(JOINT)
        main, bg = ([[run.tiny.conditioning([text]), {"a": text}]] for text in ("main", "bg"))
        longer = [[torch.cat([bg[0][0]] * 2, 1), {}]]
        node = nodes["LayerDiffusePrompts"]
        ((tokens, more),) = node.execute(main, JOINT.label, bg_cond=longer).args[0]
        assert more == {"a": "main"}
        wanted = [torch.cat([one[0][0]] * 2, 1)[0] for one in (main, bg, main)]
        assert torch.equal(tokens, torch.stack(wanted))
        ((alone, _),) = node.execute(main, SDXL_FG.label).args[0]
        assert torch.equal(alone, main[0][0])
