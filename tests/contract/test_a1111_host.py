"""The adapter for AUTOMATIC1111's WebUI against stand-ins for its `modules` package."""

from __future__ import annotations

import copy
import gc
import sys
from functools import cache
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from weakref import ref

import pytest
import sharing as reference
import torch
from tiny_weights import method_file

from lib_layerdiffuse.errors import (
    ArchMismatchError,
    ChecksumError,
    HostError,
    MissingCapabilityError,
)
from lib_layerdiffuse.host import Injection
from lib_layerdiffuse.hosts.detect import webui_host
from lib_layerdiffuse.methods import Arch, PatchKind, find_method
from lib_layerdiffuse.nets.attention_sharing import AttentionSharing
from lib_layerdiffuse.weights.patches import (
    CONV_IN,
    Diff,
    LoRA,
    read_patches,
)

FAKES = Path(__file__).parents[1] / "fakes" / "a1111"
FG = find_method("fg_attn_sd15")
JOINT = find_method("joint_sd15")
BG_TO_FG = find_method("bg_to_fg_sd15")
SDXL_FG = find_method("fg_attn_sdxl")
TWO_PICTURES = find_method("fg_blended_to_bg_sdxl")
KINDS = (FG, BG_TO_FG, JOINT, SDXL_FG, TWO_PICTURES)
PAIR = (JOINT, TWO_PICTURES)
EARLY, LATE = 900.0, 100.0
BLOCK = "diffusion_model.input_blocks.1.1.transformer_blocks.0"


def _is_lent(name):
    return name.partition(".")[0] in ("modules", "tiny_ldm") or name.startswith(
        "lib_layerdiffuse.hosts.a1111"
    )


@pytest.fixture
def run(monkeypatch):
    """Ways to use a checkpoint of the host that the stand-ins make."""
    for name in [name for name in sys.modules if _is_lent(name)]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(str(FAKES))
    yield Run(import_module("lib_layerdiffuse.hosts.a1111"), import_module("tiny_ldm"))
    for name in [name for name in sys.modules if _is_lent(name)]:
        del sys.modules[name]


class Run:
    def __init__(self, adapter, ldm):
        self.adapter, self.ldm = adapter, ldm

    def host_module(self, name):
        return import_module(f"modules.{name}")

    def open(self, method, **more):
        self.checkpoint = self.ldm.Checkpoint(method.arch.value, **more)
        self.unet = self.checkpoint.model.diffusion_model
        self.host = self.adapter.A1111Host(self.checkpoint)
        self.before = self.snapshot()
        return self

    def attach(self, method, **more):
        self.open(method)
        self.attachment = self.host.attach(injection(method, **more))
        return self

    def snapshot(self):
        modules = dict(self.checkpoint.named_modules())
        return {
            "parameters": {
                name: (id(p), p.clone()) for name, p in self.checkpoint.named_parameters()
            },
            "forwards": {n: vars(m)["forward"] for n, m in modules.items() if "forward" in vars(m)},
            "hooks": {
                n: (list(m._forward_hooks), list(m._forward_pre_hooks)) for n, m in modules.items()
            },
            "callbacks": list(self.host_module("script_callbacks").cfg_denoiser),
        }

    def assert_as_before(self):
        """Checks the host's checkpoint after `detach`, bit for bit."""
        now, before = self.snapshot(), self.before
        for key in ("forwards", "hooks", "callbacks"):
            assert now[key] == before[key], key
        assert list(now["parameters"]) == list(before["parameters"])
        for name, (identity, value) in before["parameters"].items():
            assert now["parameters"][name][0] == identity, name
            assert torch.equal(now["parameters"][name][1], value), name

    def x(self, frames=1, sets=1):
        return torch.randn(sets * frames, 4, 8, 8, generator=torch.Generator().manual_seed(3))

    def call(self, timestep, frames=1, sets=1, *, prompts=None, negatives=True):
        x = self.x(frames, sets)
        prompts = prompts or [[f"prompt {i}"] for i in range(len(x))]
        negatives = [f"negative {i}" for i in range(len(x))] if negatives else None
        return self.ldm.denoise(self.checkpoint, x, timestep, prompts, negatives)


def injection(method, *, strength=1.0, stop_at=1.0, **more):
    made = (
        {"patches": read_patches(method_file(method), method)}
        if method.patch is PatchKind.WEIGHTS
        else {"sharing": _sharing(method, strength)}
    )
    generator = torch.Generator().manual_seed(9)
    if method.concat_channels:
        made["concat"] = torch.randn(1, method.concat_channels, 8, 8, generator=generator)
    if method.uses_control:
        made["control"] = torch.rand(1, 3, 64, 64, generator=generator) * 2 - 1
    return Injection(method, stop_at, method.id, strength, **made | more)


@cache
def _sharing(method, strength):
    return new_sharing(method, strength)


def new_sharing(method, strength=1.0):
    return AttentionSharing.from_state_dict(method_file(method), strength)


def near(a, b, tolerance=1e-5):
    torch.testing.assert_close(a, b, rtol=0, atol=tolerance * b.abs().max().item())


def differs(a, b):
    assert (a - b).abs().max() > 1e-4 * b.abs().max()


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
    @pytest.mark.parametrize("arch", Arch)
    def test_its_family_is_read(self, run, arch):
        assert run.adapter.A1111Host(run.ldm.Checkpoint(arch.value)).arch() is arch

    def test_other_families_are_none(self, run):
        assert run.adapter.A1111Host(run.ldm.Checkpoint("SD2")).arch() is None
        assert run.adapter.A1111Host(SimpleNamespace()).arch() is None

    def test_a_smaller_sdxl_is_none(self, run):
        run.open(SDXL_FG).checkpoint.is_ssd = True
        assert run.host.arch() is None

    @pytest.mark.parametrize("method", [FG, TWO_PICTURES], ids=lambda m: m.id)
    def test_an_ordinary_one_passes_also_while_a_method_is_attached(self, run, method):
        run.attach(method).host.check(method)

    @pytest.mark.parametrize("channels", [8, 9])
    def test_one_for_inpainting_or_editing_is_refused(self, run, channels):
        run.open(SDXL_FG, in_channels=channels)
        with pytest.raises(MissingCapabilityError, match=f"{channels} channels, not 4"):
            run.host.check(SDXL_FG)

    def test_another_unet_in_its_place_is_refused(self, run):
        run.open(SDXL_FG)
        run.host_module("sd_unet").current_unet = object()
        with pytest.raises(MissingCapabilityError, match="Another UNet runs"):
            run.host.check(SDXL_FG)

    def test_sigmas_rise_and_are_those_of_stable_diffusion(self, run):
        sigmas = run.open(FG).host.sigmas()
        assert (sigmas.diff() > 0).all()
        torch.testing.assert_close(
            sigmas[[0, -1]], torch.tensor([0.0292, 14.6146]), rtol=2e-3, atol=0
        )


class TestVae:
    @staticmethod
    def wanted(picture):
        rgb = torch.nn.functional.avg_pool2d(2 * picture - 1, 8)
        mean = torch.cat([rgb, rgb.mean(1, keepdim=True)], dim=1)
        return mean, 0.01 * (1 + mean.abs())

    def test_the_posterior_is_on_the_vaes_scale(self, run):
        picture = torch.rand(2, 3, 16, 24)
        for got, wanted in zip(
            run.open(FG).host.posterior(picture), self.wanted(picture), strict=True
        ):
            torch.testing.assert_close(got, wanted)

    @pytest.mark.parametrize("method", [FG, SDXL_FG], ids=lambda m: m.id)
    @pytest.mark.parametrize("as_tensor", [True, False])
    def test_latents_change_scale_as_in_the_host(self, run, method, as_tensor):
        host = run.open(method).host
        if as_tensor:
            run.checkpoint.scale_factor = torch.tensor(run.checkpoint.scale_factor)
        picture = torch.rand(1, 3, 16, 24)
        mean, _ = self.wanted(picture)
        latent = host.encode(picture)
        torch.testing.assert_close(latent, mean * (0.18215 if method is FG else 0.13025))
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
        torch.testing.assert_close(mean, self.wanted(picture)[0])
        assert types == [False]

    def test_one_that_overflows_in_half_computes_in_float32(self, run):
        picture = torch.rand(1, 3, 16, 16)
        run.open(FG)
        vae = run.checkpoint.first_stage_model.half()
        vae.encoder.peak = 1e6
        mean, _ = run.host.posterior(picture)
        torch.testing.assert_close(mean, self.wanted(picture)[0])
        assert vae.encoder.weight.dtype is torch.float16

    def test_one_that_overflows_in_float32_too(self, run):
        with pytest.raises(HostError, match="NaN or infinity"):
            run.open(FG).host.posterior(torch.full((1, 3, 16, 16), torch.inf))

    @pytest.mark.parametrize(
        "error", [torch.cuda.OutOfMemoryError(), RuntimeError("MPS backend out of memory")]
    )
    def test_full_memory_is_told(self, run, monkeypatch, error):
        run.open(FG)

        def full(_):
            raise error

        monkeypatch.setattr(run.checkpoint.first_stage_model.encoder, "forward", full)
        with pytest.raises(HostError, match="memory is full"):
            run.host.posterior(torch.rand(1, 3, 16, 16))


class TestMemory:
    def test_a_network_is_placed_in_the_hosts_type(self, run):
        net = torch.nn.Linear(2, 2).double()
        run.open(FG).host.place(net, 64)
        assert net.weight.dtype is torch.float32
        run.host.place(net, 64, torch.float16)
        assert net.weight.dtype is torch.float16
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
        run.call(EARLY)
        assert lowvram.sent == [run.checkpoint.first_stage_model, net]

    @pytest.mark.parametrize("method", PAIR, ids=lambda m: m.id)
    def test_it_changes_where_and_not_what(self, run, method):
        wanted = run.attach(method).call(EARLY, method.frames)
        run.open(method).checkpoint.save_memory()
        run.before = run.snapshot()
        attachment = run.host.attach(injection(method))
        assert torch.equal(run.call(EARLY, method.frames), wanted)
        attachment.detach()
        run.assert_as_before()

    @pytest.mark.parametrize("method", [JOINT, TWO_PICTURES], ids=lambda m: m.id)
    def test_a_methods_weights_need_no_collector(self, run, method):
        run.open(method)
        fresh = {"sharing": new_sharing(method)} if method is JOINT else {}
        given = injection(method, **fresh)
        fresh.clear()
        first = next(iter(given.patches.values())) if given.patches else None
        tensor = ref(given.sharing if first is None else first.up)
        attachment = run.host.attach(given)
        run.call(EARLY, method.frames)
        gc.collect()
        gc.disable()
        try:
            attachment.detach()
            del given, first
            assert tensor() is None
        finally:
            gc.enable()


class TestTheHostsUNet:
    @pytest.mark.parametrize("method", KINDS, ids=lambda m: m.id)
    def test_it_is_as_before_after_a_run(self, run, method):
        plain = run.open(method).call(EARLY, method.frames)
        run.before = run.snapshot()
        attachment = run.host.attach(injection(method))
        differs(run.call(EARLY, method.frames), plain)
        assert attachment.calls == 1
        attachment.detach()
        attachment.detach()
        run.assert_as_before()
        assert torch.equal(run.call(EARLY, method.frames), plain)
        assert attachment.calls == 1

    @pytest.mark.parametrize("method", PAIR, ids=lambda m: m.id)
    def test_it_is_as_before_after_an_error_inside_the_call(self, run, method):
        run.attach(method)
        hook = run.unet.out.register_forward_pre_hook(lambda *_: 1 / 0)
        attached = run.snapshot()["forwards"]
        with pytest.raises(ZeroDivisionError):
            run.call(EARLY, method.frames)
        assert run.snapshot()["forwards"] == attached  # The attention's are gone already.
        hook.remove()
        run.attachment.detach()
        run.assert_as_before()

    @pytest.mark.parametrize("method", PAIR, ids=lambda m: m.id)
    def test_it_is_as_before_after_an_error_in_attaching(self, run, method, monkeypatch):
        run.open(method)

        def full(*_, **__):
            raise MemoryError

        monkeypatch.setattr(type(run.unet), "register_forward_hook", full)
        with pytest.raises(MemoryError):
            run.host.attach(injection(method))
        monkeypatch.undo()
        run.assert_as_before()

    @pytest.mark.parametrize("method", PAIR, ids=lambda m: m.id)
    def test_it_is_plain_where_the_method_has_stopped(self, run, method):
        frames = method.frames
        run.open(method)
        plain = {t: run.call(t, frames) for t in (EARLY, LATE)}
        attachment = run.host.attach(injection(method, stop_at=0.5))
        acting = run.call(EARLY, frames)
        differs(acting, plain[EARLY])
        assert torch.equal(run.call(LATE, frames), plain[LATE])
        assert torch.equal(run.call(EARLY, frames), acting)
        assert attachment.calls == 3

    @pytest.mark.parametrize("method", PAIR, ids=lambda m: m.id)
    @pytest.mark.parametrize("together", [True, False])
    def test_two_sets_and_split_calls_work(self, run, method, together):
        """The host puts the prompts' rows first, and may call for the negative ones alone."""
        run.attach(method)
        run.host_module("shared").opts.batch_cond_uncond = together
        both = run.call(EARLY, method.frames, sets=2)
        alone = run.call(EARLY, method.frames, sets=2, negatives=False)
        near(both[: len(alone)], alone)
        x, cells = run.x(method.frames, 2), range(2 * method.frames)
        for half in (slice(method.frames), slice(method.frames, None)):
            prompts = [[f"prompt {i}"] for i in cells[half]]
            one = run.ldm.denoise(run.checkpoint, x[half], EARLY, prompts, None)
            near(alone[half], one)

    @pytest.mark.parametrize("method", PAIR, ids=lambda m: m.id)
    def test_another_extensions_unet_forward_is_inside(self, run, method):
        """As ControlNet puts one into the instance, before or after us."""
        wanted = run.attach(method).call(EARLY, method.frames)
        inner = run.unet.forward

        def theirs(x, timesteps=None, context=None, y=None):
            return 2 * inner(x, timesteps, context, y)

        run.unet.forward = theirs
        near(run.call(EARLY, method.frames), 2 * wanted)
        run.attachment.detach()
        assert vars(run.unet)["forward"] is theirs

    @pytest.mark.parametrize("method", PAIR, ids=lambda m: m.id)
    def test_a_unet_that_does_not_run_does_not_count(self, run, method):
        run.attach(method)
        run.unet.forward = lambda x, *_, **__: x
        run.call(EARLY, method.frames)
        assert run.attachment.calls == 0


class TestStopAt:
    def test_the_border_still_acts(self, run):
        run.open(SDXL_FG)
        plain = {t: run.call(t) for t in (499.5, 499.4)}
        run.host.attach(injection(SDXL_FG, stop_at=0.5))
        differs(run.call(499.5), plain[499.5])
        assert torch.equal(run.call(499.4), plain[499.4])

    def test_none_of_it(self, run):
        plain = run.open(SDXL_FG).call(999.0)
        attachment = run.host.attach(injection(SDXL_FG, stop_at=0.0))
        assert torch.equal(run.call(999.0), plain)
        assert attachment.calls == 1

    def test_half_the_digits_do_not_move_the_border(self, run):
        """Timesteps come in the UNet's own type."""
        run.open(SDXL_FG)
        attachment = run.host.attach(injection(SDXL_FG, stop_at=0.9))
        timesteps = torch.tensor([99.875], dtype=torch.float16)  # The border is at 99.9.
        with torch.no_grad():
            run.unet.float()(run.x(), timesteps, run.ldm.conditioning(["a"]))
        assert attachment.calls == 1
        acts = torch.tensor([99.9375], dtype=torch.float16)
        with torch.no_grad():
            a, b = (
                run.unet(run.x(), t.float(), run.ldm.conditioning(["a"])) for t in (timesteps, acts)
            )
        differs(a, b)


class TestUserLora:
    """It is merged into the parameters, in place, whenever a layer is next called."""

    @staticmethod
    def lora(run):
        generator = torch.Generator().manual_seed(7)
        wanted = [f"model.{BLOCK}.attn{n}.to_{name}" for n in (1, 2) for name in "qkv"]
        wanted += ["model.diffusion_model.input_blocks.0.0", f"model.{BLOCK}.attn1.to_out.0"]
        modules = dict(run.checkpoint.named_modules())
        return {
            name: torch.randn(modules[name].weight.shape, generator=generator) / 8
            for name in wanted
        }

    @pytest.mark.parametrize("method", PAIR, ids=lambda m: m.id)
    def test_the_method_acts_on_top_of_it(self, run, method):
        run.open(method)
        for name, delta in self.lora(run).items():
            run.checkpoint.get_submodule(name).weight.data += delta
        run.host.attach(injection(method))
        wanted = run.call(EARLY, method.frames)

        run.attach(method)
        without = run.call(EARLY, method.frames)
        run.ldm.loaded_networks.append(self.lora(run))
        found = run.call(EARLY, method.frames)
        near(found, wanted)
        differs(found, without)

    @pytest.mark.parametrize("when", ["before", "during", "throughout"])
    @pytest.mark.parametrize("method", PAIR, ids=lambda m: m.id)
    def test_the_unet_is_bit_for_bit_what_it_was(self, run, method, when):
        run.open(method)
        plain = run.call(EARLY, method.frames)
        networks, lora = run.ldm.loaded_networks, self.lora(run)
        if when != "during":
            networks.append(lora)
        with_lora = run.call(EARLY, method.frames)
        if when == "before":
            networks.clear()
        attachment = run.host.attach(injection(method, stop_at=0.5))
        if when == "during":
            networks.append(lora)
        for timestep in (EARLY, LATE):
            run.call(timestep, method.frames)
        if when == "during":
            networks.clear()
        attachment.detach()
        again = run.call(EARLY, method.frames)
        assert torch.equal(again, with_lora if when == "throughout" else plain)
        networks.clear()
        assert torch.equal(run.call(EARLY, method.frames), plain)
        run.assert_as_before()


class TestWeights:
    @pytest.mark.parametrize("strength", [0.5, 2.0])
    def test_they_count_as_if_they_were_merged(self, run, strength):
        found = run.attach(TWO_PICTURES, strength=strength).call(EARLY)
        near(found, merged(run, injection(TWO_PICTURES, strength=strength)))

    def test_every_kind_of_layer_and_parameter(self, run):
        generator = torch.Generator().manual_seed(5)
        names = (
            "diffusion_model.input_blocks.1.0.in_layers.0",
            "diffusion_model.input_blocks.1.0.in_layers.2",
            f"{BLOCK}.norm1",
            f"{BLOCK}.attn2.to_k",
            f"{BLOCK}.attn2.to_out.0",
            "diffusion_model.out",
        )
        plain = run.open(SDXL_FG).call(EARLY)
        parameters = dict(run.checkpoint.model.named_parameters())
        keys = [f"{name}.{part}" for name in names for part in ("weight", "bias")]
        patches = {
            key: Diff(torch.randn(parameters[key].shape, generator=generator) / 8)
            for key in keys
            if key in parameters
        }
        assert len(patches) == 11
        for name in names:  # Each changes the result by more than the tolerance.
            own = {key: patch for key, patch in patches.items() if key.startswith(name)}
            attachment = run.host.attach(injection(SDXL_FG, patches=own))
            differs(run.call(EARLY), plain)
            attachment.detach()
        given = injection(SDXL_FG, strength=0.7, patches=patches)
        attachment = run.host.attach(given)
        found = run.call(EARLY)
        attachment.detach()
        near(found, merged(run, given))

    @pytest.mark.parametrize("mode", ["zeros", "circular"])
    def test_tiles_repeat_for_the_difference_too(self, run, mode):
        key = "diffusion_model.input_blocks.1.0.in_layers.2.weight"
        given = injection(SDXL_FG, patches={key: Diff(torch.ones(16, 16, 3, 3) / 16)})
        run.open(SDXL_FG)
        layer = run.checkpoint.model.get_submodule(key.removesuffix(".weight"))
        layer.padding_mode = mode
        attachment = run.host.attach(given)
        found = run.call(EARLY)
        attachment.detach()
        near(found, merged(run, given))

    def test_they_are_never_in_the_parameters(self, run):
        run.attach(TWO_PICTURES)
        seen = []
        run.unet.out.register_forward_pre_hook(
            lambda *_: seen.extend((n, p.clone()) for n, p in run.checkpoint.named_parameters())
        )
        run.call(EARLY)
        for (name, value), (other, (_, before)) in zip(
            seen, run.before["parameters"].items(), strict=True
        ):
            assert name == other
            assert torch.equal(value, before)

    def test_the_concat_latents_are_the_same_for_each_row(self, run):
        given = injection(TWO_PICTURES)
        run.open(TWO_PICTURES)
        run.host.attach(given)
        three = run.call(EARLY, sets=3)
        prompts, x = [["prompt 1"]], run.x(sets=3)[1:2]
        near(three[1:2], run.ldm.denoise(run.checkpoint, x, EARLY, prompts, None))

    def test_a_part_of_the_picture_is_refused_inside_the_call(self, run):
        run.attach(TWO_PICTURES)
        x = run.x()[..., :4]
        with pytest.raises(HostError, match="parts of the image"):
            run.ldm.denoise(run.checkpoint, x, EARLY, [["a"]], ["b"])
        assert run.attachment.calls == 0

    @pytest.mark.parametrize("key", ["diffusion_model.no.such.weight", f"{BLOCK}.attn1.to_q.bias"])
    def test_keys_that_the_unet_lacks_are_refused_and_named(self, run, key):
        run.open(SDXL_FG)
        patches = injection(SDXL_FG).patches | {key: Diff(torch.zeros(2, 2))}
        with pytest.raises(ChecksumError, match=rf"lacks 1 of its layers, such as {key}"):
            run.host.attach(injection(SDXL_FG, patches=patches))
        run.assert_as_before()

    @pytest.mark.parametrize(
        "patch",
        [
            Diff(torch.zeros(2, 2)),
            Diff(torch.zeros(16, 20)),
            LoRA(torch.zeros(16, 2), torch.zeros(2, 8)),
            LoRA(torch.zeros(16, 2), torch.zeros(3, 16)),
        ],
        ids=["other", "wider", "narrow lora", "broken lora"],
    )
    def test_other_shapes_are_refused(self, run, patch):
        run.open(SDXL_FG)
        patches = {f"{BLOCK}.attn1.to_q.weight": patch}
        with pytest.raises(ChecksumError, match=r"has the shape .* in the UNet"):
            run.host.attach(injection(SDXL_FG, patches=patches))
        run.assert_as_before()

    def test_another_extensions_forward_stays(self, run):
        """Put in before us or after us, and taken out in any order."""
        run.open(SDXL_FG)
        layer = run.checkpoint.model.get_submodule(f"{BLOCK}.attn1.to_q")
        plain = run.call(EARLY)
        inner = layer.forward
        layer.forward = theirs = lambda x: 2 * inner(x)
        doubled = run.call(EARLY)
        attachment = run.host.attach(injection(SDXL_FG))
        ours = layer.forward
        layer.forward = last = lambda x: ours(x) + 1
        differs(run.call(EARLY), doubled)
        attachment.detach()
        assert vars(layer)["forward"] is last
        layer.forward = ours  # As they found it.
        assert torch.equal(run.call(EARLY), doubled)
        layer.forward = theirs
        assert torch.equal(run.call(EARLY), doubled)
        del layer.forward
        assert torch.equal(run.call(EARLY), plain)

    def test_half_the_digits_under_autocast(self, run):
        """As on a GPU: weights and differences in half, activations in either type."""
        wanted = run.attach(TWO_PICTURES).call(EARLY)
        run.open(TWO_PICTURES)
        run.host_module("devices").dtype_unet = torch.bfloat16
        run.checkpoint.model.bfloat16()
        run.host.attach(injection(TWO_PICTURES))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = run.call(EARLY).float()
        near(found, wanted, 0.05)


def merged(run, given):
    """Returns a call of a twin of the UNet that has the patches in its parameters."""
    twin = copy.deepcopy(run.checkpoint)
    parameters = dict(twin.model.named_parameters())
    for key, patch in given.patches.items():
        delta = patch.up @ patch.down if isinstance(patch, LoRA) else patch.delta
        parameter = parameters[key]
        if key == CONV_IN:
            conv = twin.model.get_submodule(CONV_IN.removesuffix(".weight"))
            wide = torch.zeros_like(delta)
            wide[:, :4] = parameter
            conv._parameters["weight"] = torch.nn.Parameter(wide + given.strength * delta)
            conv.register_forward_pre_hook(
                lambda _, x: torch.cat([x[0], given.concat.expand(len(x[0]), -1, -1, -1)], 1)
            )
        else:
            parameter.data += given.strength * delta
    for module in twin.modules():
        vars(module).pop("forward", None)
    for name, module in twin.named_modules():
        module.network_current_names = ()
        if name == "model.diffusion_model":
            module._forward_pre_hooks.clear()
            module._forward_hooks.clear()
    x = run.x()
    return run.ldm.denoise(twin, x, EARLY, [["prompt 0"]], ["negative 0"])


class TestSharing:
    @pytest.mark.parametrize(
        ("method", "strength"),
        [(JOINT, 0.4), (BG_TO_FG, 0.4), (FG, 1.0)],
        ids=["joint", "control", "one frame"],
    )
    def test_the_unet_computes_the_reference(self, run, method, strength):
        found = run.attach(method, strength=strength).call(EARLY, method.frames, sets=2)
        run.attachment.detach()
        control = injection(method).control
        reference.use_reference(run.unet, method_file(method), method.frames, strength, control)
        near(found, run.call(EARLY, method.frames, sets=2))

    def test_the_attention_is_the_hosts_between_calls(self, run):
        run.attach(JOINT)
        run.call(EARLY, 3)
        assert not run.snapshot()["forwards"]

    def test_another_extensions_forward_comes_back(self, run):
        run.attach(JOINT)
        module = run.unet.middle_block[1].transformer_blocks[0].attn1
        module.forward = theirs = lambda x, **_: x
        run.call(EARLY, 3)
        assert vars(module)["forward"] is theirs

    def test_broken_sets_are_refused_inside_the_call(self, run):
        run.attach(JOINT)
        with pytest.raises(HostError, match="whole sets of 3"):
            run.call(EARLY, 2)
        run.attachment.detach()
        run.assert_as_before()

    def test_an_error_is_raised_as_the_front_end_wants_it(self, run):
        run.open(JOINT)
        host = run.adapter.A1111Host(run.checkpoint, lambda error: KeyError(error.message))
        host.attach(injection(JOINT))
        with pytest.raises(KeyError, match="whole sets of 3"):
            run.call(EARLY, 2)
        net = run.unet.input_blocks[1][1].transformer_blocks[0].attn1
        net.register_forward_pre_hook(lambda _, given: (given[0][:3], *given[1:]))
        with pytest.raises(KeyError, match="3 rows reach"):
            run.call(EARLY, 3)

    @pytest.mark.parametrize("method", [JOINT, BG_TO_FG], ids=lambda m: m.id)
    def test_a_composed_prompt_is_refused_for_several_frames(self, run, method):
        run.attach(method)
        prompts = [["a", "b"] for _ in range(method.frames)]
        with pytest.raises(MissingCapabilityError, match="AND"):
            run.call(EARLY, method.frames, prompts=prompts)
        run.call(EARLY, method.frames)  # The next step may be another.
        run.attachment.detach()
        run.assert_as_before()

    def test_a_composed_prompt_works_for_one_frame(self, run):
        run.attach(FG)
        both = run.call(EARLY, prompts=[["a", "b"]])
        alone = run.call(EARLY, prompts=[["b"]])
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
                run.call(EARLY)
        del block._forward
        run.call(EARLY)

    def test_a_unet_without_all_layers_is_refused(self, run):
        run.open(JOINT)
        run.unet.middle_block[1] = torch.nn.Identity()
        run.before = run.snapshot()
        with pytest.raises(ArchMismatchError, match="lacks some"):
            run.host.attach(injection(JOINT))
        run.assert_as_before()

    def test_the_control_picture_counts(self, run):
        shown = run.attach(BG_TO_FG).call(EARLY, 2)
        other = run.attach(BG_TO_FG, control=-torch.ones(1, 3, 64, 64)).call(EARLY, 2)
        differs(shown, other)

    def test_half_the_digits_under_autocast(self, run):
        """The sharing module's weights are merged once, in the UNet's type, not at each call."""
        wanted = run.attach(JOINT).call(EARLY, 3)
        run.open(JOINT)
        run.host_module("devices").dtype_unet = torch.bfloat16
        run.checkpoint.model.bfloat16()
        given = injection(JOINT, sharing=new_sharing(JOINT))
        run.host.attach(given)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = run.call(EARLY, 3).float()
        near(found, wanted, 0.1)
        types = {p.dtype for p in given.sharing.parameters()}
        assert types == {torch.bfloat16}

    def test_attention_in_float32_where_the_user_wants_it(self, run):
        run.host_module("shared").opts.upcast_attn = True
        wanted = run.attach(JOINT).call(EARLY, 3)
        run.host_module("shared").opts.upcast_attn = False
        near(run.attach(JOINT).call(EARLY, 3), wanted)
