"""The adapter for AUTOMATIC1111's WebUI against stand-ins for its `modules` package."""

from __future__ import annotations

import gc
from weakref import ref

import pytest
import torch
from a1111_run import Run
from host_run import HIGH, LOW, averages, differs, injection, lora, near, noise
from lent_webui import lent
from tiny_weights import method_file
from torch.nn import functional as F

from lib_layerdiffuse.errors import HostError, MissingCapabilityError
from lib_layerdiffuse.hosts.detect import webui_host
from lib_layerdiffuse.methods import find_method
from lib_layerdiffuse.weights.patches import Diff

FG = find_method("fg_attn_sd15")
JOINT = find_method("joint_sd15")
BG_TO_FG = find_method("bg_to_fg_sd15")
SDXL_FG = find_method("fg_attn_sdxl")
TWO_PICTURES = find_method("fg_blended_to_bg_sdxl")
PAIR = (JOINT, TWO_PICTURES)
BLOCK = "diffusion_model.input_blocks.1.1.transformer_blocks.0"


@pytest.fixture
def run():
    """Ways to use a checkpoint of the host that the stand-ins make."""
    with lent("a1111"):
        yield Run()


class TestChoice:
    """By what can be imported."""

    def test_it_is_chosen_where_its_modules_are(self, run):
        assert webui_host() is run.adapter.A1111Host

    def test_hosts_that_have_them_and_sample_in_another_way(self, run, monkeypatch, tmp_path):
        (tmp_path / "ldm_patched").mkdir()
        monkeypatch.syspath_prepend(str(tmp_path))
        with pytest.raises(MissingCapabilityError, match="no model back end"):
            webui_host()


class TestCheckpoint:
    def test_a_smaller_sdxl_is_none(self, run):
        run.open(SDXL_FG).checkpoint.is_ssd = True
        assert run.host.arch() is None

    def test_another_unet_in_its_place_is_refused(self, run):
        run.open(SDXL_FG)
        run.host_module("sd_unet").current_unet = object()
        with pytest.raises(MissingCapabilityError, match="Another UNet runs"):
            run.host.check(SDXL_FG)


class TestVae:
    def test_the_scale_may_be_a_tensor(self, run):
        host = run.open(SDXL_FG).host
        run.checkpoint.scale_factor = torch.tensor(run.checkpoint.scale_factor)
        picture = torch.rand(1, 3, 16, 24)
        mean, _ = averages(picture)
        latent = host.encode(picture)
        torch.testing.assert_close(latent, 0.13025 * mean)
        torch.testing.assert_close(host.vae_latent(latent), mean)

    def test_it_computes_in_the_vaes_own_type_whatever_autocast_does(self, run):
        picture = torch.rand(1, 3, 16, 16)
        run.open(FG)
        types = []
        run.checkpoint.first_stage_model.quant_conv.register_forward_hook(
            lambda _, given, out: types.append(torch.is_autocast_enabled("cpu"))
        )
        with torch.autocast("cpu", dtype=torch.bfloat16):
            mean, _ = run.host.posterior(picture)
        torch.testing.assert_close(mean, averages(picture)[0])
        assert types == [False]

    def test_one_that_overflows_in_half_computes_in_float32(self, run):
        picture = torch.rand(1, 3, 16, 16)
        run.open(FG)
        vae = run.checkpoint.first_stage_model.half()
        vae.encoder.peak = 1e6
        mean, _ = run.host.posterior(picture)
        torch.testing.assert_close(mean, averages(picture)[0])
        assert vae.encoder.weight.dtype is torch.float16

    def test_full_memory_is_told_on_other_devices_too(self, run, monkeypatch):
        run.open(FG)

        def full(_):
            raise RuntimeError("MPS backend out of memory")

        monkeypatch.setattr(run.checkpoint.first_stage_model.encoder, "forward", full)
        with pytest.raises(HostError, match="memory is full"):
            run.host.posterior(torch.rand(1, 3, 16, 16))


class TestMemory:
    def test_where_there_is_enough_no_network_is_sent_away(self, run):
        run.open(FG).host.place(torch.nn.Linear(2, 2), 64)
        assert run.host_module("lowvram").module_in_gpu is None

    def test_where_it_is_scarce_one_network_sends_away_another(self, run):
        lowvram = run.host_module("lowvram")
        run.open(FG).checkpoint.save_memory()
        net = torch.nn.Linear(2, 2)
        run.host.posterior(torch.rand(1, 3, 16, 16))
        assert lowvram.module_in_gpu is run.checkpoint.first_stage_model
        run.host.place(net, 64)
        run.host.place(net, 64)
        assert lowvram.sent == [run.checkpoint.first_stage_model]
        run.call(HIGH)
        assert lowvram.sent == [run.checkpoint.first_stage_model, net]

    @pytest.mark.parametrize("method", PAIR, ids=lambda m: m.id)
    def test_it_changes_where_and_not_what(self, run, method):
        wanted = run.attach(method).call(HIGH, method.frames)
        run.open(method).checkpoint.save_memory()
        run.before = run.snapshot()
        attachment = run.host.attach(injection(method))
        assert torch.equal(run.call(HIGH, method.frames), wanted)
        attachment.detach()
        run.assert_as_before()

    @pytest.mark.parametrize("method", [JOINT, TWO_PICTURES], ids=lambda m: m.id)
    def test_a_methods_weights_need_no_collector(self, run, method):
        run.open(method)
        given = injection(method, file=method_file)
        first = next(iter(given.patches.values())) if given.patches else None
        tensor = ref(given.sharing if first is None else first.up)
        attachment = run.host.attach(given)
        run.call(HIGH, method.frames)
        gc.collect()
        gc.disable()
        try:
            attachment.detach()
            del given, first
            assert tensor() is None
        finally:
            gc.enable()


class TestTheHostsUNet:
    @pytest.mark.parametrize("method", PAIR, ids=lambda m: m.id)
    def test_it_is_as_before_after_an_error_inside_the_call(self, run, method):
        run.attach(method)
        hook = run.unet.out.register_forward_pre_hook(lambda *_: 1 / 0)
        attached = run.snapshot()["forwards"]
        with pytest.raises(ZeroDivisionError):
            run.call(HIGH, method.frames)
        assert run.snapshot()["forwards"] == attached  # The attention's are gone already.
        hook.remove()
        run.attachment.detach()
        run.assert_as_before()

    @pytest.mark.parametrize("method", PAIR, ids=lambda m: m.id)
    def test_conditions_that_the_host_calls_for_one_by_one(self, run, method):
        both = run.attach(method).call(HIGH, method.frames, sets=2)
        run.host_module("shared").opts.batch_cond_uncond = False
        near(run.call(HIGH, method.frames, sets=2), both)

    @pytest.mark.parametrize("method", PAIR, ids=lambda m: m.id)
    def test_another_extensions_unet_forward_is_inside(self, run, method):
        """As ControlNet puts one into the instance, before or after us."""
        wanted = run.attach(method).call(HIGH, method.frames)
        inner = run.unet.forward

        def theirs(x, timesteps=None, context=None, y=None):
            return 2 * inner(x, timesteps, context, y)

        run.unet.forward = theirs
        near(run.call(HIGH, method.frames), 2 * wanted)
        run.attachment.detach()
        assert vars(run.unet)["forward"] is theirs

    @pytest.mark.parametrize("method", PAIR, ids=lambda m: m.id)
    def test_a_unet_that_does_not_run_does_not_count(self, run, method):
        run.attach(method)
        run.unet.forward = lambda x, *_, **__: x
        run.call(HIGH, method.frames)
        assert run.attachment.calls == 0


class TestStopAt:
    def test_half_the_digits_do_not_move_the_border(self, run):
        """Timesteps come in the UNet's own type."""
        run.open(SDXL_FG)
        attachment = run.host.attach(injection(SDXL_FG, stop_at=0.9))
        x = noise(1, 4, 8, 8)
        timesteps = torch.tensor([99.875], dtype=torch.float16)  # The border is at 99.9.
        with torch.no_grad():
            run.unet.float()(x, timesteps, run.ldm.conditioning(["a"]))
        assert attachment.calls == 1
        acts = torch.tensor([99.9375], dtype=torch.float16)
        with torch.no_grad():
            a, b = (run.unet(x, t.float(), run.ldm.conditioning(["a"])) for t in (timesteps, acts))
        differs(a, b)


class TestUserLora:
    """It is merged into the parameters, in place, whenever a layer is next called."""

    @pytest.mark.parametrize("method", PAIR, ids=lambda m: m.id)
    def test_one_that_comes_and_goes_while_a_method_is_attached(self, run, method):
        plain = run.open(method).call(HIGH, method.frames)
        run.load(injection(method, stop_at=0.5))
        run.put_lora(lora(run))
        for done in (HIGH, LOW):
            run.call(done, method.frames)
        run.put_lora(None)
        run.end()
        assert torch.equal(run.call(HIGH, method.frames), plain)
        run.assert_as_before()


class TestWeights:
    @pytest.mark.parametrize("mode", ["zeros", "circular"])
    def test_tiles_repeat_for_the_difference_too(self, run, mode):
        key = "diffusion_model.input_blocks.1.0.in_layers.2.weight"
        given = injection(SDXL_FG, patches={key: Diff(torch.ones(16, 16, 3, 3) / 16)})
        run.open(SDXL_FG)
        layer = run.layer(key.removesuffix(".weight"))
        layer.padding_mode = mode
        x, delta = noise(1, 16, 4, 4), given.patches[key].delta
        plain = layer(x)
        run.load(given)
        run.attachment.unet.register_forward_pre_hook(lambda *_: seen.append(layer(x)))
        seen = []
        run.call(HIGH)
        padded = F.pad(x, (1, 1, 1, 1), mode="constant" if mode == "zeros" else mode)
        near(seen[0], plain + F.conv2d(padded, delta))

    def test_they_are_never_in_the_parameters(self, run):
        run.attach(TWO_PICTURES)
        seen = []
        run.unet.out.register_forward_pre_hook(
            lambda *_: seen.extend((n, p.clone()) for n, p in run.checkpoint.named_parameters())
        )
        run.call(HIGH)
        for (name, value), (other, (_, before)) in zip(
            seen, run.before["parameters"].items(), strict=True
        ):
            assert name == other
            assert torch.equal(value, before)

    def test_they_are_kept_as_small_as_in_their_file(self, run):
        """Where the UNet computes in float32, a file in float16 would take twice its size."""
        key = f"{BLOCK}.attn1.to_q.weight"
        run.open(SDXL_FG)
        shape = run.layer(key.removesuffix(".weight")).weight.shape
        values = torch.rand(shape).half()
        run.load(injection(SDXL_FG, patches={key: Diff(values)}))
        run.call(HIGH)
        found = (t for t in gc.get_objects() if type(t) is torch.Tensor and t.shape == shape)
        assert {t.dtype for t in found if torch.equal(t, values)} == {torch.float16}

    def test_a_refused_call_does_not_count(self, run):
        run.attach(TWO_PICTURES)
        with pytest.raises(HostError, match="parts of the image"):
            run.denoise(torch.zeros(1, 4, 8, 4), HIGH, ["a"], ["b"])
        assert run.attachment.calls == 0

    def test_another_extensions_forward_stays(self, run):
        """Put in before us or after us, and taken out in any order."""
        run.open(SDXL_FG)
        layer = run.checkpoint.model.get_submodule(f"{BLOCK}.attn1.to_q")
        plain = run.call(HIGH)
        inner = layer.forward
        layer.forward = theirs = lambda x: 2 * inner(x)
        doubled = run.call(HIGH)
        attachment = run.host.attach(injection(SDXL_FG))
        ours = layer.forward
        layer.forward = last = lambda x: ours(x) + 1
        differs(run.call(HIGH), doubled)
        attachment.detach()
        assert vars(layer)["forward"] is last
        layer.forward = ours  # As they found it.
        assert torch.equal(run.call(HIGH), doubled)
        layer.forward = theirs
        assert torch.equal(run.call(HIGH), doubled)
        del layer.forward
        assert torch.equal(run.call(HIGH), plain)

    def test_half_the_digits_under_autocast(self, run):
        """As on a GPU: weights and differences in half, activations in either type."""
        wanted = run.attach(TWO_PICTURES).call(HIGH)
        run.open(TWO_PICTURES)
        run.host_module("devices").dtype_unet = torch.bfloat16
        run.checkpoint.model.bfloat16()
        run.host.attach(injection(TWO_PICTURES))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = run.call(HIGH).float()
        near(found, wanted, 0.05)


class TestSharing:
    def test_the_attention_is_the_hosts_between_calls(self, run):
        run.attach(JOINT)
        run.call(HIGH, 3)
        assert not run.snapshot()["forwards"]

    def test_an_error_in_a_layer_is_raised_as_the_front_end_wants_it(self, run):
        run.open(JOINT)
        host = run.adapter.A1111Host(run.checkpoint, lambda error: KeyError(error.message))
        host.attach(injection(JOINT))
        net = run.unet.input_blocks[1][1].transformer_blocks[0].attn1
        net.register_forward_pre_hook(lambda _, given: (given[0][:3], *given[1:]))
        with pytest.raises(KeyError, match="3 rows reach"):
            run.call(HIGH, 3)

    @pytest.mark.parametrize("method", [JOINT, BG_TO_FG], ids=lambda m: m.id)
    def test_a_composed_prompt_is_refused_for_several_frames(self, run, method):
        run.attach(method)
        x, prompts = noise(method.frames, 4, 8, 8), [["a", "b"]] * method.frames
        with pytest.raises(MissingCapabilityError, match="AND"):
            run.denoise(x, HIGH, prompts, ["c"] * method.frames)
        run.call(HIGH, method.frames)  # The next step may be another.
        run.attachment.detach()
        run.assert_as_before()

    def test_a_composed_prompt_works_for_one_frame(self, run):
        run.attach(FG)
        x = noise(1, 4, 8, 8)
        both, alone = (run.denoise(x, HIGH, [prompts], ["c"]) for prompts in (["a", "b"], "b"))
        near(both[1:], alone)

    def test_hypernetworks_are_refused(self, run):
        run.open(JOINT)
        run.host_module("shared").loaded_hypernetworks.append(object())
        with pytest.raises(MissingCapabilityError, match="hypernetwork"):
            run.host.attach(injection(JOINT))
        run.assert_as_before()
        run.open(SDXL_FG).host.attach(injection(SDXL_FG))

    def test_another_image_to_look_at_is_refused(self, run):
        """As ControlNet's Reference does: a second run of the layers, or wider self-attention."""
        run.attach(FG)
        block = run.unet.input_blocks[1][1].transformer_blocks[0]
        plain = block._forward
        for changed in (
            lambda x, context: plain(plain(x, context), context),
            lambda x, context: block.attn1(x, context=torch.cat([x, x], 1)),
        ):
            block._forward = changed
            with pytest.raises(HostError, match="Reference"):
                run.call(HIGH)
        del block._forward
        run.call(HIGH)

    def test_half_the_digits_under_autocast(self, run):
        """The sharing module's weights are merged once, in the UNet's type, not at each call."""
        wanted = run.attach(JOINT).call(HIGH, 3)
        run.open(JOINT)
        run.host_module("devices").dtype_unet = torch.bfloat16
        run.checkpoint.model.bfloat16()
        given = injection(JOINT)
        run.host.attach(given)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = run.call(HIGH, 3).float()
        near(found, wanted, 0.1)
        types = {p.dtype for p in given.sharing.parameters()}
        assert types == {torch.bfloat16}

    def test_attention_in_float32_where_the_user_wants_it(self, run):
        run.host_module("shared").opts.upcast_attn = True
        wanted = run.attach(JOINT).call(HIGH, 3)
        run.host_module("shared").opts.upcast_attn = False
        near(run.attach(JOINT).call(HIGH, 3), wanted)
