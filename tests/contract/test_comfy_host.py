"""What is ComfyUI's alone: MODELs that later nodes patch, and samplers."""

from __future__ import annotations

import weakref

import pytest
import torch
from adapters import run
from comfy_run import SCHEDULE, model_with
from host_run import HIGH, LOW, differs, lora, near

from lib_layerdiffuse.errors import (
    BatchSizeError,
    HostError,
    ImageSizeError,
    MissingCapabilityError,
)
from lib_layerdiffuse.methods import find_method
from lib_layerdiffuse.weights.patches import Diff

__all__ = ["run"]
FG, JOINT = find_method("fg_attn_sd15"), find_method("joint_sd15")
CONTROL = find_method("bg_to_fg_sd15")
SDXL_FG, WIDER = find_method("fg_attn_sdxl"), find_method("fg_blended_to_bg_sdxl")
PAIR = pytest.mark.parametrize("method", [JOINT, WIDER], ids=lambda method: method.id)

pytestmark = pytest.mark.parametrize("run", ["comfy"], indirect=True)


def loaded(run):
    return list(run.parts.memory.loaded)


class TestFamilies:
    @pytest.mark.parametrize("name", ["SSD1B", "SD15_instructpix2pix", "SD20"])
    def test_what_derives_from_a_family_is_another_one(self, run, name):
        host = run.host_of(name)
        assert host.arch() is None
        with pytest.raises(MissingCapabilityError, match=name):
            host.check(SDXL_FG)

    def test_a_second_method_on_top_is_refused(self, run):
        unet = model_with(run, SDXL_FG)
        run.host.model = unet.clone()
        with pytest.raises(MissingCapabilityError, match="already"):
            run.host.check(SDXL_FG)

    def test_a_vae_without_a_posterior_is_refused(self, run):
        host = run.host_of("SDXL")
        del host.vae.first_stage_model.encoder
        with pytest.raises(MissingCapabilityError, match="FirstStage"):
            host.posterior(torch.rand(1, 3, 16, 16))

    def test_without_a_model_latents_are_as_comfyui_has_them(self, run):
        host = run.host_of("SDXL")
        host.model, latent = None, torch.rand(1, 4, 2, 2)
        assert host.sampler_latent(latent) is host.vae_latent(latent) is latent


class TestSampling:
    @PAIR
    def test_each_run_of_a_model_is_the_same_and_a_plain_one_between(self, run, method):
        run.open(method)
        plain = run.sample(run.plain, SCHEDULE, method.frames)
        unet = run.host.attach(run.injection(method, stop_at=0.5)).unet
        first = run.sample(unet, SCHEDULE, method.frames)
        differs(first, plain)
        assert torch.equal(run.sample(run.plain, SCHEDULE, method.frames), plain)
        assert torch.equal(run.sample(unet, SCHEDULE, method.frames), first)
        run.assert_as_before()

    @PAIR
    def test_it_stops_where_two_samplers_would_change(self, run, method):
        frames = method.frames
        stopped = model_with(run, method, stop_at=0.5)
        whole = run.host.attach(run.injection(method)).unet
        alone = [run.sample(whole, (done,), frames) for done in SCHEDULE]
        plain = [run.sample(run.plain, (done,), frames) for done in SCHEDULE]
        found = [run.sample(stopped, (done,), frames) for done in SCHEDULE]
        for done, one, with_it, without in zip(SCHEDULE, found, alone, plain, strict=True):
            near(one, with_it if done <= 0.5 else without, 1e-6)

    @PAIR
    def test_a_sampler_may_go_back_to_more_noise(self, run, method):
        stopped = model_with(run, method, stop_at=0.5)
        there = run.sample(stopped, (HIGH,), method.frames)
        again = run.sample(stopped, (HIGH, LOW, HIGH), method.frames)
        assert again.isfinite().all()
        near(run.sample(stopped, (HIGH,), method.frames), there)

    @PAIR
    def test_a_users_lora_of_a_later_node_stays_when_the_method_stops(self, run, method):
        stopped = model_with(run, method, stop_at=0.5)
        changes, frames = lora(run), method.frames
        patches = {key: run.dialect.write(Diff(delta)) for key, delta in changes.items()}
        both, users = stopped.clone(), run.plain.clone()
        for patcher in (both, users):
            patcher.add_patches(patches)
        for done in (HIGH, LOW):
            found = run.sample(both, (done,), frames)
            alone = run.sample(users, (done,), frames)
            (near if done == LOW else differs)(found, alone)
        late = run.sample(both, (HIGH, LOW), frames)
        assert torch.equal(run.sample(both, (HIGH, LOW), frames), late)

    def test_a_users_lora_of_the_first_convolution_fits_after_the_method(self, run):
        """A padded weight would have another shape, and ComfyUI would drop the LoRA."""
        unet = model_with(run, WIDER)
        shape = run.layer("diffusion_model.input_blocks.0.0").weight.shape
        delta = torch.ones(shape)
        patched = unet.clone()
        key = "diffusion_model.input_blocks.0.0.weight"
        patched.add_patches({key: run.dialect.write(Diff(delta))})
        differs(run.sample(patched, (HIGH,)), run.sample(unet, (HIGH,)))

    @pytest.mark.parametrize("broken", ["merge", "call"])
    def test_an_interrupt_leaves_nothing(self, run, monkeypatch, broken):
        """ComfyUI's is no `Exception`: what it mends after an error it does not after that."""
        run.open(WIDER)
        stop = run.parts.memory.InterruptProcessingException
        unet = run.host.attach(run.injection(WIDER, stop_at=0.5)).unet
        with monkeypatch.context() as patch:
            if broken == "merge":
                run.break_merging(patch, stop)
            else:
                patch.setattr(run.last_layer(), "forward", _raise(stop))
            with pytest.raises(stop):
                run.sample(unet, SCHEDULE)
        run.assert_as_before()

    def test_weights_go_with_the_last_model_that_has_them(self, run):
        run.open(WIDER)
        given = run.injection(WIDER, stop_at=0.5, seed=5)
        unet = run.host.attach(given).unet
        run.sample(unet, SCHEDULE)
        found = weakref.ref(run.host.attach(given).unet)
        assert found() is None
        alive = weakref.ref(unet)
        del unet
        run.sample(run.plain, (HIGH,))
        assert alive() is None


def _raise(error):
    def fail(*_):
        raise error

    return fail


class TestRefusedBeforeLoading:
    def refused(self, run, unet, error, said, **more):
        before = loaded(run)
        with pytest.raises(error, match=said):
            run.sample(unet, SCHEDULE, **more)
        assert loaded(run) == before

    def test_a_batch_of_no_whole_sets(self, run):
        self.refused(run, model_with(run, JOINT), BatchSizeError, "multiple of 3", frames=2)

    @pytest.mark.parametrize("method", [CONTROL, WIDER], ids=lambda method: method.id)
    def test_an_image_of_another_size(self, run, method):
        of = {"control": torch.zeros(1, 3, 64, 128), "concat": torch.zeros(1, 8, 8, 16)}
        name = "control" if method is CONTROL else "concat"
        unet = model_with(run, method, **{name: of[name]})
        said = "128×64, and the latent is for 64×64"
        self.refused(run, unet, ImageSizeError, said, frames=method.frames)

    @PAIR
    def test_context_windows(self, run, method):
        unet = model_with(run, method)
        unet.model_options["context_handler"] = object()
        said = "take the layers of a set apart"
        self.refused(run, unet, MissingCapabilityError, said, frames=method.frames)

    def test_patches_that_regroup_what_they_get(self, run):
        unet = model_with(run, JOINT)
        unet.set_model_patch(lambda q, k, v, _: (q.roll(1, 0), k, v), "attn1_patch")
        self.refused(run, unet, MissingCapabilityError, "regroup", frames=3)

    def test_stopping_midway_on_several_gpus(self, run):
        unet = model_with(run, WIDER, stop_at=0.5)
        unet.set_additional_models("multigpu", [run.plain.clone()])
        before = loaded(run)
        with pytest.raises(MissingCapabilityError, match="several GPUs"):
            run.sample(unet, SCHEDULE)
        assert loaded(run) == before


class TestRefusedInTheCall:
    def test_an_image_that_is_sampled_in_parts(self, run):
        run.attach(CONTROL)
        with pytest.raises(HostError, match=r"64×32 where the given image is 64×64.*parts"):
            run.denoise(torch.zeros(2, 4, 4, 8), HIGH, ["a", "b"], [])
        run.end()

    @PAIR
    def test_rows_of_which_nothing_is_told(self, run, method):
        """A pack may call the UNet by itself; rows of two prompts would be paired as frames."""
        unet = run.attach(method).unet
        options = {"wrappers": unet.wrappers}
        with pytest.raises(HostError, match="a way of its own"):
            run.net.apply_model(torch.zeros(6, 4, 8, 8), torch.ones(6), None, None, None, options)
        run.end()
        run.assert_as_before(run.before)

    @pytest.mark.parametrize(
        ("file", "said"),
        [
            ("/a/custom_nodes/Some-Pack/nodes/attn.py", "the nodes of Some-Pack"),
            ("/a/comfy_extras/nodes_hypertile.py", "ComfyUI's hypertile nodes"),
            ("", "the nodes of another pack"),
        ],
    )
    def test_nodes_that_replace_attention_are_named(self, run, file, said):
        unet = model_with(run, JOINT)
        code = compile("lambda q, *_: q", file, "eval")
        replaced = {"attn2": {("input", 4): eval(code)}}
        unet.model_options["transformer_options"]["patches_replace"] = replaced
        with pytest.raises(MissingCapabilityError, match=said):
            run.sample(unet, SCHEDULE, 3)
        run.assert_as_before()

    def test_a_copy_of_the_sharing_module_for_another_gpu(self, run):
        with pytest.raises(MissingCapabilityError, match="several GPUs"):
            model_with(run, JOINT).deepclone_multigpu()


class TestProgress:
    def test_it_stands_on_the_node_and_can_be_stopped(self, run):
        report = run.host_of("SDXL").progress(8)
        assert report(3, 8)
        memory = run.parts.memory
        memory.interrupted = True
        with pytest.raises(memory.InterruptProcessingException):
            report(4, 8)
