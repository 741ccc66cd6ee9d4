"""Patches in the dialect of each host with a patcher, and whether they are merged."""

from __future__ import annotations

import gc
from functools import partial
from importlib import import_module

import pytest
import torch
from patcher_run import HIGH, LOW, Run, injection, near
from thinned import thinned
from tiny_weights import method_file

from lib_layerdiffuse.errors import HostError, MissingCapabilityError
from lib_layerdiffuse.methods import find_method
from lib_layerdiffuse.nets.attention_sharing import AttentionSharing
from lib_layerdiffuse.weights.patches import CONV_IN, Diff, LoRA

JOINT, FG_SD15 = find_method("joint_sd15"), find_method("fg_attn_sd15")
LORAS, DIFFS = find_method("fg_attn_sdxl"), find_method("fg_conv_sdxl")
WIDER = find_method("fg_blended_to_bg_sdxl")
KEY = "diffusion_model.input_blocks.2.1.transformer_blocks.0.attn1.to_k.weight"
NORM = "diffusion_model.input_blocks.2.1.transformer_blocks.0.norm1.bias"
CONV = "diffusion_model.middle_block.0.conv.weight"


WEBUIS = ("forge", "neo", "reforge", "classic")
_REFORGE = pytest.param("reforge", marks=pytest.mark.slow)  # Neo's manager merges in the same way.
MERGED_IN_CALLS = ("neo", _REFORGE)
"""Where memory is short."""


@pytest.fixture(params=["forge", "neo", _REFORGE, "classic"])
def webui_name(request):
    return request.param


@pytest.fixture
def run(webui):
    return Run()


@pytest.fixture
def merge(monkeypatch):
    """Puts another function in the place of the host's that merges patches into a weight."""
    owner, name = import_module("patcher_parts").MERGE

    def exchange(function):
        inner = getattr(owner, name)

        def merged(*given):
            *of_a_patcher, entries, weight, key = given
            return function(partial(inner, *of_a_patcher), entries, weight, key)

        monkeypatch.setattr(owner, name, merged)

    return exchange


def given(method, **more):
    """Returns an injection; of a convolution method's it has differences of every shape."""
    if method is DIFFS:
        torch.manual_seed(5)
        shapes = {KEY: (16, 16), NORM: (16,), CONV: (16, 16, 1, 1)}
        more["patches"] = {key: Diff(torch.randn(shape)) for key, shape in shapes.items()}
    return injection(method, **more)


class TestForms:
    def test_a_lora_has_the_form_that_the_host_reads(self, run, webui_name):
        patch = LoRA(torch.ones(4, 2), torch.ones(2, 3))
        written = run.open(LORAS).host.dialect.write(patch)
        if webui_name in ("neo", "reforge"):
            assert type(written).__name__ == "LoRAAdapter"
            assert written.weights == (patch.up, patch.down, None, None, None, None)
        else:
            assert written == ("lora", [patch.up, patch.down, None, None, None, None])

    @pytest.mark.parametrize("webui_name", WEBUIS[1:], indirect=True)
    def test_the_stand_in_has_the_traps_of_its_host(self, run, webui_name, caplog):
        """As they were met in the host itself, by each form in turn."""
        run.open(LORAS)
        owner, name = import_module("patcher_parts").MERGE
        merge = getattr(run.plain if webui_name == "classic" else owner, name)
        weight, wider = torch.zeros(2, 4, 3, 3), torch.ones(2, 8, 3, 3)
        square, lora = torch.zeros(2, 2), ("lora", [torch.ones(2, 2)] * 2 + [None] * 14)
        if webui_name == "neo":
            with pytest.raises(ValueError, match="not recognized"):
                merge([(1.0, lora)], square.clone(), "key")
        else:
            merged = merge([(1.0, lora)], square.clone(), "key")
            assert torch.equal(merged, square) is (webui_name == "reforge")
        with pytest.raises(TypeError):
            merge([(1.0, ("diff", [weight] + [None] * 15))], weight.clone(), "key")
        assert torch.equal(merge([(1.0, ("diff", [wider]))], weight.clone(), "key"), weight)
        assert "NOT MERGED" in caplog.text
        padded = merge([(1.0, ("diff", (wider, {"pad_weight": True})))], weight.clone(), "key")
        assert torch.equal(padded, wider)

    @pytest.mark.parametrize(
        ("webui_name", "name"),
        [
            *(("neo", name) for name in ("LoRAAdapter", "partially_load", "add_patches")),
            *(("reforge", name) for name in ("partially_load", "unpatch_model", "add_patches")),
            *(("classic", name) for name in ("unload_model_clones", "unpatch_model")),
        ],
        indirect=["webui_name"],
    )
    def test_a_patcher_that_has_changed_is_told_in_words(self, webui, monkeypatch, name):
        parts = import_module("patcher_parts")
        owner = {
            "LoRAAdapter": parts.lora_class_owner,
            "unload_model_clones": parts.memory,
        }.get(name, parts.ModelPatcher)
        if name == "add_patches":
            monkeypatch.setattr(owner, name, lambda self, patches, weight: [], raising=False)
        elif name in vars(owner):
            monkeypatch.delattr(owner, name)
        else:
            monkeypatch.delattr(owner.__mro__[1], name)
        name = {"partially_load": "partially_load|unload_model_clones"}.get(name, name)
        with pytest.raises(MissingCapabilityError, match=f"lacks .*{name}"):
            import_module("lib_layerdiffuse.hosts.detect").webui_host()


class TestAcceptedButNotMerged:
    def test_a_users_lora_on_the_same_layer_does_not_hide_it(self, run, merge):
        run.open(DIFFS)
        merge(lambda inner, entries, weight, key: inner(entries[:1], weight, key))
        torch.manual_seed(1)
        for key, patch in given(DIFFS).patches.items():
            run.add_lora(key, Diff(torch.randn(patch.delta.shape)))
        run.load(given(DIFFS))
        with pytest.raises(HostError, match="has not merged"):
            run.call(HIGH)

    @pytest.mark.parametrize("strength", thinned([0.5, 0.0, 1e-9, -1.0], 2))
    @pytest.mark.parametrize("method", [LORAS, DIFFS, WIDER], ids=lambda m: m.id)
    def test_what_is_merged_is_none(self, run, method, strength):
        """A strength that rounding swallows tells nothing, and one below 0 turns the patch."""
        run.open(method).load(given(method, strength=strength))
        run.call(HIGH)

    @pytest.mark.parametrize("strength", [1e-3, 0.3])
    def test_a_strong_lora_of_the_users_hides_a_weak_method_and_is_no_error(self, run, strength):
        for sign in (1, -1):  # Whichever way it goes along the patch, by chance.
            run.open(DIFFS)
            torch.manual_seed(1)
            for key, patch in given(DIFFS).patches.items():
                run.add_lora(key, Diff(sign * 100 * torch.randn(patch.delta.shape)))
            run.load(given(DIFFS, strength=strength)).call(HIGH)

    def test_packed_weights_tell_nothing(self, run):
        run.open(DIFFS).load(given(DIFFS))
        for key in given(DIFFS).patches:
            path, _, name = key.rpartition(".")
            layer = run.plain.model.get_submodule(path)
            packed = getattr(layer, name).detach().as_subclass(_Packed)
            del layer._parameters[name]
            setattr(layer, name, packed)
        run.call(HIGH)


class _Packed(torch.Tensor):
    """Weights of four bits, say."""


@pytest.mark.parametrize("webui_name", ["classic"], indirect=True)
class TestClassic:
    """Told to let patches persist, it merges onto what is merged; told to merge in place, too."""

    @pytest.fixture
    def persistent(self, webui):
        keep = import_module("ldm_patched.modules.model_patcher").keep_patches
        keep(True)
        yield
        keep(False)

    @pytest.fixture
    def a_users_lora(self, run, webui):
        """Returns the weights with it, and what the UNet gives."""
        import_module("ldm_patched.modules.model_patcher").loras[:] = ["a LoRA"]
        run.open(WIDER)
        run.add_lora(KEY, LoRA(torch.randn(16, 2), torch.randn(2, 16)))
        return self.plain(run)

    @staticmethod
    def plain(run):
        run.tiny.load_for_sampling(run.plain)
        return {k: p.clone() for k, p in run.plain.model.named_parameters()}

    def check(self, run, with_it, stop_at=1.0):
        run.checkpoint.forge_objects.unet = run.plain
        run.load(injection(WIDER, stop_at=stop_at))
        merged = dict(run.plain.model.named_parameters())
        assert torch.equal(merged[KEY], with_it[KEY])
        wanted = injection(WIDER).patches[CONV_IN].delta.clone()
        wanted[:, :4] += with_it[CONV_IN]
        torch.testing.assert_close(merged[CONV_IN], wanted)
        run.call(HIGH)
        if stop_at < 1:
            run.call(LOW)
            for key, value in run.plain.model.named_parameters():
                assert torch.equal(value, with_it[key]), key
            run.call(HIGH)
        run.attachment.detach()
        for key, value in self.plain(run).items():
            assert torch.equal(value, with_it[key]), key

    @pytest.mark.parametrize("stop_at", [1.0, 0.5])
    def test_patches_that_persist(self, run, persistent, a_users_lora, stop_at):
        for _ in range(2):
            self.check(run, a_users_lora, stop_at)

    def test_a_job_that_does_not_begin_leaves_a_users_lora_on(self, run, persistent, a_users_lora):
        run.host.attach(injection(WIDER)).detach()
        for key, value in self.plain(run).items():
            assert torch.equal(value, a_users_lora[key]), key

    def test_patches_in_place(self, run, a_users_lora):
        run.plain.weight_inplace_update = True
        self.check(run, a_users_lora, stop_at=0.5)


@pytest.mark.parametrize("webui_name", MERGED_IN_CALLS, indirect=True)
class TestLittleMemory:
    """The host then merges in each call, and its weights show nothing."""

    @pytest.mark.parametrize("method", [LORAS, DIFFS, WIDER, JOINT], ids=lambda m: m.id)
    def test_it_computes_the_same(self, run, method, monkeypatch):
        wanted = run.open(method).load(given(method)).call(HIGH, frames=method.frames)
        memory = import_module("patcher_parts").memory
        monkeypatch.setattr(memory, "has_room", False)
        near(run.open(method).load(given(method)).call(HIGH, frames=method.frames), wanted)
        run.attachment.detach()
        run.assert_as_before()

    def test_what_is_not_merged_in_the_call_is_an_error(self, run, merge, monkeypatch):
        merge(lambda inner, entries, weight, key: weight)
        monkeypatch.setattr(import_module("patcher_parts").memory, "has_room", False)
        run.attach(LORAS)
        with pytest.raises(HostError, match="has not merged"):
            run.call(HIGH)

    def test_a_users_lora_counts_where_frames_share_attention(self, run, monkeypatch):
        results = []
        for has_room in (True, False):
            monkeypatch.setattr(import_module("patcher_parts").memory, "has_room", has_room)
            run.open(JOINT)
            torch.manual_seed(4)
            run.add_lora(KEY, LoRA(torch.randn(16, 2), torch.randn(2, 16)))
            results.append(run.load(injection(JOINT)).call(HIGH, frames=3))
        near(*results)


class TestPasses:
    @pytest.mark.parametrize("webui_name", WEBUIS[:3], indirect=True)
    def test_the_same_weights_are_not_merged_for_each_pass(self, run):
        run.attach(LORAS).call(HIGH)
        merges = run.merges
        for _ in range(2):
            run.attachment.detach()
            run.checkpoint.forge_objects.unet = run.plain
            run.load(injection(LORAS)).call(HIGH)
        assert run.merges == merges

    def test_another_strength_is(self, run):
        first = run.attach(LORAS).call(HIGH)
        run.checkpoint.forge_objects.unet = run.plain
        assert not torch.allclose(
            run.load(injection(LORAS, strength=0.5)).call(HIGH), first, atol=1e-3
        )

    def test_a_second_detaching_merges_nothing(self, run):
        run.attach(LORAS).call(HIGH)
        assert run.attachment.unet is not run.plain
        run.attachment.detach()
        merges = run.merges
        run.attachment.detach()
        assert run.merges == merges
        run.assert_as_before()


class TestSharingModules:
    def test_those_of_earlier_runs_are_unloaded(self, run):
        memory = import_module("patcher_parts").memory
        first = injection(FG_SD15)
        run.attach(FG_SD15, sharing=first.sharing).call(HIGH)
        run.checkpoint.forge_objects.unet = run.plain
        run.load(injection(JOINT)).call(HIGH, frames=3)
        held = [entry.model.model for entry in memory.current_loaded_models]
        (sharing,) = [net for net in held if isinstance(net, AttentionSharing)]
        assert sharing.frames == 3
        assert vars(first.sharing)["host_patcher"].unloaded

    def test_entries_that_hold_nothing_any_more_are_left_alone(self, run):
        memory = import_module("patcher_parts").memory
        run.attach(FG_SD15).call(HIGH)
        run.attachment = run.unet = None
        run.checkpoint.forge_objects.unet = run.plain
        gc.collect()
        other = AttentionSharing.from_state_dict(method_file(JOINT), 1.0)
        run.load(injection(JOINT, sharing=other)).call(HIGH, frames=3)
        held = [e.model.model for e in memory.current_loaded_models if e.model is not None]
        assert sum(isinstance(net, AttentionSharing) for net in held) == 1
