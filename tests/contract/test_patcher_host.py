"""The adapter for hosts with a patcher, against a stand-in for each of their dialects."""

from __future__ import annotations

import gc
from importlib import import_module
from weakref import ref

import pytest
import torch
from host_run import differs
from patcher_run import HIGH, LOW, Run, injection, near
from thinned import thinned

from lib_layerdiffuse.errors import MissingCapabilityError
from lib_layerdiffuse.methods import find_method
from lib_layerdiffuse.nets.attention_sharing import AttentionSharing
from lib_layerdiffuse.nets.unet_pass import MOST, thrifts
from lib_layerdiffuse.weights.patches import ATTENTION_SLOTS, LoRA

JOINT = find_method("joint_sd15")
SDXL_FG = find_method("fg_attn_sdxl")
TWO_PICTURES = find_method("fg_blended_to_bg_sdxl")
KINDS = (find_method("fg_attn_sd15"), find_method("bg_to_fg_sd15"), JOINT, SDXL_FG, TWO_PICTURES)


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
    return Run()


class TestNetworks:
    def test_networks_are_placed_by_the_memory_manager(self, run):
        net = torch.nn.Linear(2, 2).double()
        run.open(JOINT).host.place(net, 64 * 64)
        (loaded,) = import_module("patcher_parts").memory.loaded
        assert loaded.weight is net.weight
        assert net.weight.dtype is torch.float32

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
    def test_memory_is_asked_for_what_is_computed_and_little_more(self, run, monkeypatch, dtype):
        memory, asked = import_module("patcher_parts").memory, []
        monkeypatch.setattr(
            memory,
            "load_models_gpu",
            lambda _, memory_required, **more: asked.append(memory_required),
        )
        values = 10**9
        run.open(JOINT).host.place(torch.nn.Linear(2, 2), values, dtype)
        finest = values // MOST
        first = thrifts(torch.device("cuda"), finest, dtype.itemsize, asked[0])[0]
        assert first.recomputed == 0
        assert asked[0] <= 1.25 * values * dtype.itemsize + (640 << 20)

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

    def test_the_vae_is_loaded_first(self, run, vae):
        run.host.posterior(torch.rand(1, 3, 16, 24))
        assert import_module("patcher_parts").memory.loaded == [vae.first_stage_model]

    @pytest.mark.parametrize("told", [True, False])
    def test_tiles_where_told_or_where_memory_is_full(self, run, vae, monkeypatch, told):
        memory, shapes = import_module("patcher_parts").memory, []
        encode = vae.first_stage_model.encoder.forward

        def small_memory(signed):
            if max(signed.shape[2:]) > 1024:
                raise run.memory_error
            shapes.append(tuple(signed.shape[2:]))
            return encode(signed)

        monkeypatch.setattr(vae.first_stage_model.encoder, "forward", small_memory)
        monkeypatch.setattr(memory, "VAE_ALWAYS_TILED", told)
        width = 600 if told else 1200
        picture = torch.rand(1, 3, 600, width)
        mean, std = run.host.posterior(picture)
        assert {(512, 512), (256, min(width, 1024))} <= set(shapes)
        monkeypatch.undo()
        for got, wanted in zip((mean, std), run.vae_makes(picture), strict=True):
            torch.testing.assert_close(got, wanted)

    def test_another_error_is_not_taken_for_full_memory(self, run, vae, monkeypatch):
        """As where the host's kind of error for that is every exception's."""
        monkeypatch.setattr(vae.first_stage_model.encoder, "forward", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run.host.posterior(torch.rand(1, 3, 16, 16))


class TestOtherExtensions:
    @pytest.mark.parametrize("name", ["attn1", "attn2"])
    def test_replaced_attention_is_refused(self, run, name):
        run.open(JOINT)
        replaced = {"patches_replace": {name: {("input", 1, 0): print}}}
        run.plain.model_options["transformer_options"] = replaced
        with pytest.raises(MissingCapabilityError, match="would replace the attention"):
            run.host.attach(injection(JOINT))

    def test_a_projection_with_a_scale_runs_as_it_is(self, run, monkeypatch):
        run.attach(JOINT)
        layer = run.layer("diffusion_model.input_blocks.1.1.transformer_blocks.0.attn1.to_q")
        plain, called = run.call(HIGH, frames=3), []
        layer.scale_weight = torch.tensor(2.0)
        forward = type(layer).forward
        monkeypatch.setattr(
            type(layer), "forward", lambda own, x: called.append(own) or forward(own, x)
        )
        near(run.call(HIGH, frames=3), plain)  # The stand-in's linear has no scale.
        assert any(own is layer for own in called)


@pytest.mark.parametrize(("webui_name", "method"), EACH, indirect=["webui_name"])
class TestTheCallersUNet:
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


class TestStopAt:
    def test_weights_are_merged_only_when_the_side_changes(self, run):
        run.attach(SDXL_FG, stop_at=0.5)
        merges = []
        for done in (HIGH, HIGH, LOW, LOW, HIGH):
            run.call(done)
            merges.append(run.merges)
        assert merges == [1, 1, 2, 2, 3]


class TestWeights:
    def test_files_of_other_content_do_not_keep_stale_weights(self, run):
        first = run.attach(SDXL_FG).call(HIGH)
        run.checkpoint.forge_objects.unet = run.plain
        run.load(injection(SDXL_FG, seed=1))
        differs(run.call(HIGH), first)

    def test_the_hosts_arguments_are_not_changed(self, run):
        run.attach(TWO_PICTURES)
        x, c = torch.zeros(1, 4, 8, 8), {"c_crossattn": run.tiny.conditioning(["a"])}
        args = {"input": x, "timestep": torch.tensor([10.0]), "c": c, "cond_or_uncond": [0]}
        run.unet.model_options["model_function_wrapper"](run.unet.model.apply_model, args)
        assert c.keys() == {"c_crossattn"}
        assert args["c"] is c


class TestSharing:
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

    @pytest.mark.parametrize("webui_name", ["forge", "neo"], indirect=True)  # The others have none.
    @pytest.mark.parametrize("part", thinned(["to_q", "to_v", "to_out.0"], 3))
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
