"""The adapter for hosts with a patcher, against a stand-in for each of their dialects."""

from __future__ import annotations

import copy
import gc
from importlib import import_module
from types import SimpleNamespace
from weakref import ref

import pytest
import sharing as reference
import torch
from patcher_run import HIGH, LOW, Run, injection, near
from tiny_weights import method_file

from lib_layerdiffuse.errors import ChecksumError, HostError, MissingCapabilityError
from lib_layerdiffuse.methods import Arch, PatchKind, find_method
from lib_layerdiffuse.nets.attention_sharing import AttentionSharing
from lib_layerdiffuse.weights.patches import ATTENTION_SLOTS, CONV_IN, Diff, LoRA

JOINT = find_method("joint_sd15")
BG_TO_FG = find_method("bg_to_fg_sd15")
SDXL_FG = find_method("fg_attn_sdxl")
TWO_PICTURES = find_method("fg_blended_to_bg_sdxl")
KINDS = (find_method("fg_attn_sd15"), BG_TO_FG, JOINT, SDXL_FG, TWO_PICTURES)


WEBUIS = ("forge", "neo", "reforge", "classic")
# Sharing is the same code in all of them, and who merges weights the same in Neo and reForge.
SLOW = {"forge": (), "neo": KINDS[:3], "reforge": KINDS, "classic": KINDS[:4]}
EACH = [
    pytest.param(
        webui,
        method,
        id=f"{webui}-{method.id}",
        marks=[pytest.mark.slow] if method in SLOW[webui] else [],
    )
    for webui in WEBUIS
    for method in KINDS
]


@pytest.fixture(
    params=[*WEBUIS[:2], *(pytest.param(w, marks=pytest.mark.slow) for w in WEBUIS[2:])]
)
def webui_name(request):
    return request.param


@pytest.fixture
def run(webui):
    """A checkpoint of each method's family, and ways to use it."""
    return Run(import_module("tiny_checkpoint"), import_module("lib_layerdiffuse.hosts.detect"))


def differs(a, b):
    assert (a - b).abs().max() > 1e-4 * b.abs().max()


def full_memory(memory):
    """Returns what is raised where memory is full: some hosts have no kind of their own for it."""
    kind = memory.OOM_EXCEPTION
    return torch.OutOfMemoryError if kind is Exception else kind


def plain_call(run, sigma, frames=1, sets=1):
    """Returns a call of the caller's UNet, and leaves the clone loaded."""
    run.tiny.load_for_sampling(run.plain)
    result = run.call(sigma, unet=run.plain, frames=frames, sets=sets)
    run.tiny.load_for_sampling(run.unet)
    return result


class TestCheckpoint:
    @pytest.mark.parametrize("arch", Arch)
    def test_its_family_is_read(self, run, arch):
        assert run.host_of(run.tiny.Checkpoint(arch.value)).arch() is arch

    def test_other_families_are_none(self, run):
        assert run.host_of(run.tiny.Checkpoint("Flux")).arch() is None
        assert run.host_of(SimpleNamespace()).arch() is None

    def test_an_ordinary_one_passes(self, run):
        run.open(SDXL_FG).host.check(SDXL_FG)

    def test_an_ordinary_one_passes_while_a_jobs_wider_weights_are_merged(self, run):
        run.attach(TWO_PICTURES)
        assert dict(run.plain.model.named_parameters())[CONV_IN].shape[1] == 12
        run.host.check(TWO_PICTURES)

    @pytest.mark.parametrize("channels", [8, 9])
    def test_one_for_inpainting_or_editing_is_refused(self, run, channels):
        run.open(SDXL_FG)
        run.plain.model.diffusion_model.input_blocks[0][0] = torch.nn.Conv2d(channels, 16, 3)
        with pytest.raises(MissingCapabilityError, match=f"{channels} channels, not 4"):
            run.host.check(SDXL_FG)

    def test_latents_change_scale_as_in_the_host(self, run):
        host = run.open(JOINT).host
        picture = torch.rand(1, 3, 16, 24)
        latent = host.encode(picture)
        assert latent.shape == (1, 4, 2, 3)
        on_vae_scale = run.checkpoint.forge_objects.vae.encode(picture.movedim(1, -1))
        torch.testing.assert_close(latent, 0.18215 * on_vae_scale)
        torch.testing.assert_close(host.vae_latent(latent), on_vae_scale)

    def test_networks_are_placed_by_the_memory_manager(self, run):
        net = torch.nn.Linear(2, 2).double()
        run.open(JOINT).host.place(net, 64 * 64)
        (loaded,) = import_module("patcher_parts").memory.loaded
        assert loaded.weight is net.weight
        assert net.weight.dtype is torch.float32

    def test_a_network_that_is_used_no_more_needs_no_collector(self, run):
        net, memory = torch.nn.Linear(2, 2), import_module("patcher_parts").memory
        run.open(JOINT).host.place(net, 64)
        weight = ref(net.weight)
        gc.collect()
        gc.disable()
        try:
            del net
            memory.loaded.clear()
            memory.current_loaded_models.clear()
            assert weight() is None
        finally:
            gc.enable()

    def test_a_network_keeps_its_patcher(self, run):
        net, memory = torch.nn.Linear(2, 2), import_module("patcher_parts").memory
        host, kept = run.open(JOINT).host, []
        original = memory.load_models_gpu
        memory.load_models_gpu = lambda models, **more: kept.extend(models)
        try:
            host.place(net, 64)
            host.place(net, 64)
        finally:
            memory.load_models_gpu = original
        assert kept[0] is kept[1]


class TestPosterior:
    @pytest.fixture
    def vae(self, run):
        run.open(JOINT)
        return run.checkpoint.forge_objects.vae

    @staticmethod
    def wanted(vae, picture):
        mean = vae.encode(picture.movedim(1, -1))
        return mean, 0.01 * (1 + mean.abs())

    def test_it_is_on_the_vaes_scale_and_the_vae_is_loaded_first(self, run, vae):
        picture = torch.rand(1, 3, 16, 24)
        mean, std = run.host.posterior(picture)
        for got, wanted in zip((mean, std), self.wanted(vae, picture), strict=True):
            torch.testing.assert_close(got, wanted)
        memory = import_module("patcher_parts").memory
        assert memory.loaded == [vae.first_stage_model]
        torch.testing.assert_close(run.host.sampler_latent(mean), 0.18215 * mean)

    @pytest.mark.parametrize("told", [True, False])
    def test_tiles_where_told_or_where_memory_is_full(self, run, vae, monkeypatch, told):
        memory, shapes = import_module("patcher_parts").memory, []
        encode = vae.first_stage_model.encoder.forward

        def small_memory(signed):
            if max(signed.shape[2:]) > 1024:
                raise full_memory(memory)
            shapes.append(tuple(signed.shape[2:]))
            return encode(signed)

        monkeypatch.setattr(vae.first_stage_model.encoder, "forward", small_memory)
        monkeypatch.setattr(memory, "VAE_ALWAYS_TILED", told)
        width = 600 if told else 1200
        picture = torch.rand(1, 3, 600, width)
        mean, std = run.host.posterior(picture)
        assert {(512, 512), (256, min(width, 1024))} <= set(shapes)
        monkeypatch.undo()
        for got, wanted in zip((mean, std), self.wanted(vae, picture), strict=True):
            torch.testing.assert_close(got, wanted)

    def test_no_room_even_for_tiles(self, run, vae, monkeypatch):
        memory = import_module("patcher_parts").memory

        def full(*_):
            raise full_memory(memory)

        monkeypatch.setattr(vae.first_stage_model.encoder, "forward", full)
        with pytest.raises(HostError, match="memory is full"):
            run.host.posterior(torch.rand(1, 3, 16, 16))

    def test_another_error_is_not_taken_for_full_memory(self, run, vae, monkeypatch):
        """As where the host's kind of error for that is every exception's."""
        monkeypatch.setattr(vae.first_stage_model.encoder, "forward", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run.host.posterior(torch.rand(1, 3, 16, 16))

    def test_numbers_that_overflow(self, run):
        with pytest.raises(HostError, match="NaN or infinity"):
            run.open(JOINT).host.posterior(torch.full((1, 3, 16, 16), torch.inf))


class TestOtherExtensions:
    @pytest.mark.parametrize("name", ["attn1", "attn2"])
    def test_replaced_attention_is_refused(self, run, name):
        run.open(JOINT)
        replaced = {"patches_replace": {name: {("input", 1, 0): print}}}
        run.plain.model_options["transformer_options"] = replaced
        with pytest.raises(MissingCapabilityError, match="would replace the attention"):
            run.host.attach(injection(JOINT))

    @pytest.mark.parametrize("how", ["forward", "hook", "scale"])
    def test_a_wrapped_projection_runs_as_it_is(self, run, how):
        run.attach(JOINT)
        plain = run.call(HIGH, frames=3)
        attention = run.plain.model.diffusion_model.input_blocks[1][1].transformer_blocks[0].attn1
        layer = attention.to_q
        if how == "forward":
            layer.forward = lambda x, forward=layer.forward: 2 * forward(x)
        elif how == "hook":
            layer.register_forward_hook(lambda *parts: 2 * parts[-1])
        else:
            layer.scale_weight = torch.tensor(2.0)
        changed = run.call(HIGH, frames=3)
        # The stand-in's linear has no scale: its result stays, but by way of its own call.
        near(changed, plain) if how == "scale" else differs(changed, plain)


@pytest.mark.parametrize(("webui_name", "method"), EACH, indirect=["webui_name"])
class TestTheCallersUNet:
    def test_it_is_as_before_after_a_run(self, run, method):
        run.attach(method)
        assert run.unet is not run.plain
        result = run.call(HIGH, frames=method.frames)
        assert run.attachment.calls == 1
        assert not torch.allclose(result, plain_call(run, HIGH, method.frames), atol=1e-3)
        run.assert_as_before()

    def test_it_is_as_before_after_an_error_inside_the_call(self, run, method):
        run.attach(method)
        out = run.plain.model.diffusion_model.out
        hook = out.register_forward_pre_hook(lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run.call(HIGH, frames=method.frames)
        hook.remove()
        run.assert_as_before()

    @pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt])
    def test_it_is_as_before_after_merging_failed_halfway(self, run, method, monkeypatch, error):
        """A host that gives weights back after an error does not after an interruption."""
        (owner, name), merged = import_module("patcher_parts").MERGE, []
        merge = getattr(owner, name)

        def fail(*parts):
            if len(merged) == 2:
                raise error
            merged.append(parts)
            return merge(*parts)

        run.open(method)
        attachment = run.host.attach(injection(method))
        if method.patch is PatchKind.WEIGHTS:
            monkeypatch.setattr(owner, name, fail)
            with pytest.raises(error):
                run.tiny.load_for_sampling(attachment.unet)
            monkeypatch.undo()
        attachment.detach()
        run.assert_as_before()

    def test_it_is_as_before_after_stopping(self, run, method):
        run.attach(method, stop_at=0.5)
        for sigma in (HIGH, LOW):
            run.call(sigma, frames=method.frames)
        run.assert_as_before()

    def test_the_clone_equals_it_where_the_method_has_stopped(self, run, method):
        run.attach(method, stop_at=0.5)
        frames = method.frames
        acting = run.call(HIGH, frames=frames)
        plain = {sigma: plain_call(run, sigma, frames) for sigma in (HIGH, LOW)}
        assert not torch.allclose(acting, plain[HIGH], atol=1e-3)
        assert torch.equal(run.call(LOW, frames=frames), plain[LOW])
        near(run.call(HIGH, frames=frames), acting)
        assert run.attachment.calls == 3

    def test_stopping_at_the_end_acts_to_the_end(self, run, method):
        run.attach(method, stop_at=1.0)
        run.call(HIGH, frames=method.frames)
        acting = run.call(0.0301, frames=method.frames)
        plain = plain_call(run, 0.0301, method.frames)
        assert not torch.allclose(acting, plain, atol=1e-6, rtol=1e-5)

    def test_an_earlier_wrapper_runs_inside(self, run, method):
        seen = []

        def wrapper(apply_model, args):
            seen.append(args["c"].get("c_concat"))
            return 2 * apply_model(args["input"], args["timestep"], **args["c"])

        run.attach(method)
        without = run.call(HIGH, frames=method.frames)
        run.tiny.load_for_sampling(run.plain)
        run.plain.set_model_unet_function_wrapper(wrapper)
        run.host.sd_model.forge_objects.unet = run.plain
        run.load(injection(method))
        near(run.call(HIGH, frames=method.frames), 2 * without)
        assert len(seen) == 1
        assert (seen[0] is not None) == bool(method.concat_channels)
        assert run.plain.model_options["model_function_wrapper"] is wrapper

    def test_clones_of_other_extensions_share_the_attachment(self, run, method):
        run.attach(method)
        first = run.call(HIGH, frames=method.frames)
        run.unet = run.unet.clone()
        run.tiny.load_for_sampling(run.unet)
        assert torch.equal(run.call(HIGH, frames=method.frames), first)
        assert run.attachment.calls == 2

    def test_two_sets_and_one_chunk_work(self, run, method):
        run.attach(method)
        x, rows = run.inputs(method.frames, sets=2)
        both = run.tiny.call_unet(run.unet, x, HIGH, rows)
        alone = [run.tiny.call_unet(run.unet, x, HIGH, [chunk]) for chunk in rows]
        near(both, torch.cat(alone))
        by_set = [
            run.tiny.call_unet(run.unet, part, HIGH, [text])
            for part, text in zip(x.chunk(2), rows[1].chunk(2), strict=True)
        ]
        near(alone[1], torch.cat(by_set))


class TestStopAt:
    def test_the_border_sigma_still_acts(self, run):
        run.attach(SDXL_FG, stop_at=0.5)
        border = run.plain.model.schedule.percent_to_sigma(0.5)
        plain = {s: plain_call(run, s) for s in (border * 1.001, border * 0.999)}
        above, below = (run.call(sigma) for sigma in plain)
        assert not torch.allclose(above, plain[border * 1.001], atol=1e-3)
        assert torch.equal(below, plain[border * 0.999])

    def test_weights_are_merged_only_when_the_side_changes(self, run):
        run.attach(SDXL_FG, stop_at=0.5)
        merges = []
        for sigma in (HIGH, HIGH, LOW, LOW, HIGH):
            run.call(sigma)
            merges.append(run.merges)
        assert merges == [1, 1, 2, 2, 3]

    def test_a_users_merged_lora_stays(self, run):
        run.open(SDXL_FG)
        key = "diffusion_model.input_blocks.2.1.transformer_blocks.0.attn1.to_k.weight"
        run.add_lora(key, Diff(torch.ones(16, 16)))
        run.tiny.load_for_sampling(run.plain)
        wanted = run.call(LOW, unet=run.plain)
        run.load(injection(SDXL_FG, stop_at=0.5))
        run.call(HIGH)
        assert torch.equal(run.call(LOW), wanted)


class TestWeights:
    @pytest.mark.parametrize("strength", [0.5, 2.0])
    def test_the_hosts_loader_merges_them_at_their_strength(self, run, strength):
        run.attach(TWO_PICTURES, strength=strength)
        merged = dict(run.plain.model.named_parameters())
        for key, patch in injection(TWO_PICTURES).patches.items():
            base = run.before["parameters"][key][1]
            delta = patch.up @ patch.down if isinstance(patch, LoRA) else patch.delta
            wanted = strength * delta
            wanted[:, : base.shape[1]] += base
            torch.testing.assert_close(merged[key], wanted)

    def test_files_of_other_content_do_not_keep_stale_weights(self, run):
        first = run.attach(SDXL_FG).call(HIGH)
        run.checkpoint.forge_objects.unet = run.plain
        run.load(injection(SDXL_FG, seed=1))
        assert not torch.allclose(run.call(HIGH), first, atol=1e-3)

    def test_concat_latents_are_repeated_for_each_row_while_it_acts(self, run):
        seen = []
        run.open(TWO_PICTURES)
        run.plain.set_model_unet_function_wrapper(
            lambda apply_model, args: (
                seen.append(args["c"].get("c_concat"))
                or apply_model(args["input"], args["timestep"], **args["c"])
            )
        )
        given = injection(TWO_PICTURES, stop_at=0.5)
        run.load(given)
        run.call(HIGH, sets=3)
        run.call(LOW, sets=3)
        acting, stopped = seen
        assert torch.equal(acting, given.concat.expand(6, -1, -1, -1))
        assert stopped is None

    def test_a_part_of_the_picture_is_refused_inside_the_call(self, run):
        run.attach(TWO_PICTURES)
        x, rows = run.inputs(1)
        with pytest.raises(HostError, match="parts of the image"):
            run.tiny.call_unet(run.unet, x[..., :4], HIGH, rows)

    def test_the_hosts_arguments_are_not_changed(self, run):
        run.attach(TWO_PICTURES)
        x, rows = run.inputs(1)
        c = {"c_crossattn": rows[0]}
        args = {"input": x, "timestep": torch.tensor([HIGH]), "c": c, "cond_or_uncond": [0]}
        run.unet.model_options["model_function_wrapper"](run.unet.model.apply_model, args)
        assert c.keys() == {"c_crossattn"}
        assert args["c"] is c

    def test_keys_that_the_unet_lacks_are_refused_and_named(self, run):
        run.open(SDXL_FG)
        lacking = {"diffusion_model.no.such.weight": Diff(torch.zeros(2, 2))}
        patches = injection(SDXL_FG).patches | lacking
        with pytest.raises(ChecksumError, match=r"lacks 1 of its layers.*no\.such\.weight"):
            run.host.attach(injection(SDXL_FG, patches=patches))
        run.assert_as_before()


class TestSharing:
    @pytest.mark.parametrize("id", ["joint_sd15", "bg_to_fg_sd15", "fg_attn_sd15"])
    @pytest.mark.parametrize("strength", [1.0, 0.4])
    def test_the_unet_computes_the_reference(self, run, id, strength):
        method = find_method(id)
        run.attach(method, strength=strength)
        result = run.call(HIGH, frames=method.frames, sets=2)
        twin = copy.deepcopy(run.plain.model)
        control = injection(method).control
        reference.use_reference(
            twin.diffusion_model, method_file(method), method.frames, strength, control
        )
        run.unet = SimpleNamespace(model=twin, model_options={})
        near(result, run.call(HIGH, frames=method.frames, sets=2))

    def test_the_hosts_attention_computes(self, run):
        run.attach(JOINT)
        calls = import_module("patcher_parts").attention.calls
        run.call(HIGH, frames=3)
        assert calls == [run.tiny.HEADS] * len(ATTENTION_SLOTS)

    def test_the_host_brings_the_module_to_the_device(self, run):
        run.attach(JOINT)
        (patcher,) = run.unet.extra_model_patchers_during_sampling
        loaded = import_module("patcher_parts").memory.loaded
        assert loaded == [run.plain.model, patcher.model]
        assert isinstance(patcher.model, AttentionSharing)

    def test_another_extensions_forward_comes_back(self, run):
        run.attach(JOINT)
        module = run.plain.model.diffusion_model.middle_block[1].transformer_blocks[0].attn1

        def theirs(x, **_):
            return x

        module.forward = theirs
        run.call(HIGH, frames=3)
        assert vars(module)["forward"] is theirs
        out = run.plain.model.diffusion_model.out
        out.register_forward_pre_hook(lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run.call(HIGH, frames=3)
        assert vars(module)["forward"] is theirs

    def test_parameters_stay_visible_during_the_call(self, run):
        run.attach(JOINT)
        names = []
        run.plain.model.diffusion_model.out.register_forward_pre_hook(
            lambda *_: names.extend(name for name, _ in run.plain.model.named_parameters())
        )
        run.call(HIGH, frames=3)
        assert names == list(run.before["parameters"])

    @pytest.mark.parametrize("part", ["to_q", "to_v", "to_out.0"])
    def test_loras_on_the_fly_count_as_merged_ones_do(self, run, part):
        key = f"diffusion_model.input_blocks.1.1.transformer_blocks.0.attn1.{part}.weight"
        torch.manual_seed(4)
        lora = LoRA(torch.randn(16, 2), torch.randn(2, 16))
        results = []
        for online in (None, False, True):
            run.open(JOINT)
            if online is not None:
                run.add_lora(key, lora, online_mode=online)
            run.load(injection(JOINT))
            results.append(run.call(HIGH, frames=3))
        without, merged, on_the_fly = results
        assert not torch.allclose(without, merged, atol=1e-2)
        near(on_the_fly, merged)

    def test_broken_sets_are_refused_inside_the_call(self, run):
        run.attach(JOINT)
        with pytest.raises(HostError, match="whole sets of 3"):
            run.call(HIGH, frames=2)
        run.assert_as_before()

    @pytest.mark.parametrize("rows", [slice(3), slice(3, None)])
    def test_whole_sets_taken_out_of_the_call_are_refused(self, run, rows):
        """They would be paired with other sets' prompts or control."""
        run.attach(JOINT)
        net = run.plain.model.diffusion_model
        attention = net.input_blocks[1][1].transformer_blocks[0].attn1
        attention.register_forward_pre_hook(lambda _, given: (given[0][rows], *given[1:]))
        with pytest.raises(HostError, match=r"3 rows reach .* for 6"):
            run.call(HIGH, frames=3)
        run.assert_as_before()

    def test_the_conditionings_of_a_call_may_come_one_by_one(self, run):
        run.open(JOINT)

        def one_by_one(apply_model, args):
            xs, ts = args["input"].chunk(2), args["timestep"].chunk(2)
            texts = args["c"]["c_crossattn"].chunk(2)
            parts = zip(xs, ts, texts, strict=True)
            return torch.cat(
                [apply_model(x, t, **args["c"] | {"c_crossattn": c}) for x, t, c in parts]
            )

        together = run.attach(JOINT).call(HIGH, frames=3)
        run.open(JOINT).plain.set_model_unet_function_wrapper(one_by_one)
        run.load(injection(JOINT))
        near(run.call(HIGH, frames=3), together)

    def test_the_control_picture_counts(self, run):
        shown = run.attach(BG_TO_FG).call(HIGH, frames=2)
        black = -torch.ones(1, 3, 64, 64)
        other = run.attach(BG_TO_FG, control=black).call(HIGH, frames=2)
        assert not torch.allclose(shown, other, atol=1e-3)
