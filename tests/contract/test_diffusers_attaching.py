"""An injection on diffusers' UNet: what it computes, and that nothing is left of it."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch

pytest.importorskip("diffusers", minversion="0.41", reason="the standalone host needs it")

import accelerate
import sharing
from diffusers import UNet2DConditionModel
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint
from safetensors.torch import save_file
from thinned import thinned
from tiny_diffusers import UNET, configs, host, load, method_tensors, random_tensors
from torch import Tensor, nn

from lib_layerdiffuse.errors import (
    ArchMismatchError,
    ChecksumError,
    HostError,
    SettingsError,
)
from lib_layerdiffuse.host import Injection
from lib_layerdiffuse.hosts.diffusers import DiffusersHost, Offload, Sampling, SamplingStopped
from lib_layerdiffuse.hosts.diffusers.attaching import attach
from lib_layerdiffuse.hosts.diffusers.parameter_names import diffusers_name, module_names
from lib_layerdiffuse.methods import METHODS, Arch, LayerMethod, PatchKind, find_method
from lib_layerdiffuse.nets.attention_sharing import AttentionSharing
from lib_layerdiffuse.weights.patches import ATTENTION_SLOTS, LoRA, read_patches

IDS = {"ids": lambda method: method.id}
PATCHED = [m for m in METHODS if m.patch is PatchKind.WEIGHTS]
SHARED = [m for m in METHODS if m.patch is PatchKind.ATTENTION_SHARING]
KINDS = [find_method(name) for name in ("bg_to_fg_sd15", "fg_attn_sdxl", "bg_blended_to_fg_sdxl")]


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def injection_of(method: LayerMethod, strength: float = 0.8, stop_at: float = 1.0) -> Injection:
    made = Injection(method, stop_at, "test", strength)
    tensors = method_tensors(method)
    if method.patch is PatchKind.WEIGHTS:
        concat = noise(1, method.concat_channels, 8, 8, seed=3) if method.inputs else None
        return replace(made, patches=read_patches(tensors, method), concat=concat)
    control = noise(1, 3, 64, 64, seed=4).clamp(-1, 1) if method.uses_control else None
    sharing_module = AttentionSharing.from_state_dict(tensors, strength)
    return replace(made, sharing=sharing_module, control=control)


def inputs(unet: nn.Module, rows: int = 6) -> dict[str, Tensor]:
    config = unet.config
    values = {"encoder_hidden_states": noise(rows, 77, config.cross_attention_dim, seed=1)}
    if config.addition_embed_type:
        wide = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
        extra = {"text_embeds": noise(rows, wide, seed=2), "time_ids": torch.ones(rows, 6)}
        values["added_cond_kwargs"] = extra
    return values


@torch.no_grad()
def output(unet: nn.Module, timestep: float = 600, channels: int = 4, **more: Tensor) -> Tensor:
    sample = more.pop("sample", noise(6, channels, 8, 8))
    return unet(sample, torch.tensor(timestep), **(inputs(unet) | more)).sample


def state(unet: nn.Module) -> dict[str, object]:
    """Returns everything that a run could leave behind, objects by identity."""
    found: dict[str, object] = {}
    for name, module in unet.named_modules():
        forward = vars(module).get("forward")
        hooks = (len(module._forward_hooks), len(module._forward_pre_hooks))
        with_kwargs = len(module._forward_pre_hooks_with_kwargs)
        processor = getattr(module, "processor", None)
        found[name] = (id(module), id(forward), id(processor), *hooks, with_kwargs)
    for name, parameter in unet.named_parameters():
        found[f"{name}="] = (id(parameter), parameter.dtype, parameter.device)
    return found


@contextmanager
def left_as_it_was(unet: nn.Module) -> Iterator[None]:
    before = state(unet)
    values = {name: tensor.clone() for name, tensor in unet.state_dict().items()}
    yield
    assert state(unet) == before
    after = unet.state_dict()
    assert list(after) == list(values)
    assert all(torch.equal(after[name], value) for name, value in values.items())


def sampling(host: DiffusersHost, rows: int = 6, **more: object) -> Sampling:
    given = {"steps": 2, "cfg": 5.0, "sampler": "Euler a", "width": 64, "height": 64}
    return Sampling(["a cat"] * rows, [""] * rows, list(range(rows)), **(given | more))


class TestRestoring:
    @pytest.mark.parametrize("method", KINDS, **IDS)
    def test_after_a_run(self, method):
        one = host(method.arch)
        with left_as_it_was(one.pipeline.unet):
            plain = one.sample(sampling(one))
            changed = one.sample(sampling(one), injection_of(method))
            assert torch.equal(one.sample(sampling(one)), plain)
        assert not torch.allclose(changed, plain, atol=1e-2)

    @pytest.mark.parametrize("method", KINDS, **IDS)
    @pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
    def test_after_an_error_in_a_step(self, method, error):
        def fail(done: int, total: int) -> bool:
            raise error("in a step")

        one = host(method.arch)
        with left_as_it_was(one.pipeline.unet), pytest.raises(error, match="in a step"):
            one.sample(sampling(one, on_step=fail), injection_of(method))

    @pytest.mark.parametrize("method", KINDS, **IDS)
    def test_after_the_user_stopped_it(self, method):
        seen = []
        one = host(method.arch)
        stopped = sampling(one, steps=5, on_step=lambda *step: bool(seen.append(step)))
        with left_as_it_was(one.pipeline.unet), pytest.raises(SamplingStopped):
            one.sample(stopped, injection_of(method))
        assert seen == [(1, 5)]

    def test_after_an_error_inside_the_unet(self):
        method = find_method("fg_to_blended_sdxl")
        unet = host(Arch.SDXL).pipeline.unet
        wrong = replace(injection_of(method), concat=noise(1, 3, 8, 8))
        with (
            left_as_it_was(unet),
            pytest.raises(RuntimeError),
            host(Arch.SDXL).attached(wrong),
        ):
            output(unet)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    @pytest.mark.parametrize("method", thinned(KINDS, 2), **IDS)
    def test_bit_by_bit_in_half_precision(self, method, dtype):
        one = load(method.arch, dtype=dtype)
        with left_as_it_was(one.pipeline.unet):
            one.sample(sampling(one, steps=1), injection_of(method))

    def test_detaching_twice_is_detaching_once(self):
        one = host(Arch.SDXL)
        with left_as_it_was(one.pipeline.unet):
            attachment = one.attach(injection_of(KINDS[1]))
            output(one.pipeline.unet)
            attachment.detach()
            attachment.detach()


class TestPatches:
    @pytest.mark.parametrize("method", PATCHED, **IDS)
    def test_the_unet_is_that_of_a_checkpoint_with_the_patches_merged(self, method):
        injection = injection_of(method, strength=0.7)
        expected = merged_unet(method, injection)
        concat = injection.concat
        sample = noise(6, 4, 8, 8)
        beside = [sample] if concat is None else [sample, concat.expand(6, -1, -1, -1)]

        with host(Arch.SDXL).attached(injection) as attachment:
            found = output(host(Arch.SDXL).pipeline.unet, sample=sample)
            parameters = host(Arch.SDXL).pipeline.unet.state_dict()

        for name, value in expected.state_dict().items():
            torch.testing.assert_close(parameters[name], value, rtol=0, atol=1e-6)
        wanted = output(expected, sample=torch.cat(beside, dim=1))
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
        assert attachment.calls == 1

    @pytest.mark.parametrize(
        ("key", "shape"),
        [
            ("diffusion_model.input_blocks.1.1.norm.weight", (10,)),
            ("diffusion_model.out.2.weights", (4, 10, 3, 3)),
            ("diffusion_model.out.2.weight", (4, 11, 3, 3)),
            ("diffusion_model.input_blocks.1.0.in_layers.2.weight", (10, 12, 3, 3)),
        ],
        ids=["no such block", "no such parameter", "another shape", "wider, but not the first"],
    )
    def test_what_the_unet_lacks_is_an_error_before_it_runs(self, key, shape):
        method = find_method("fg_conv_sdxl")
        wrong = read_patches({f"{key}::diff::0": torch.zeros(shape)}, method)
        unet = host(Arch.SDXL).pipeline.unet
        with left_as_it_was(unet), pytest.raises(ChecksumError, match=key.replace(".", r"\.")):
            host(Arch.SDXL).attach(replace(injection_of(method), patches=wrong))

    def test_zeros_change_nothing(self):
        method = find_method("fg_to_blended_sdxl")
        unet = host(Arch.SDXL).pipeline.unet
        with host(Arch.SDXL).attached(injection_of(method, strength=0.0)):
            found = output(unet)
        torch.testing.assert_close(found, output(unet), rtol=1e-5, atol=1e-5)


def merged_unet(method: LayerMethod, injection: Injection) -> UNet2DConditionModel:
    """Returns the UNet that diffusers makes of a checkpoint in which the patches are merged."""
    tensors = {k: t for k, t in random_tensors(Arch.SDXL).items() if k.startswith(UNET)}
    for key, patch in (injection.patches or {}).items():
        weight = tensors[f"model.{key}"]
        delta = patch.up @ patch.down if isinstance(patch, LoRA) else patch.delta
        if weight.shape != delta.shape:
            more = torch.zeros_like(delta)
            more[:, : weight.shape[1]] = weight
            weight = more
        tensors[f"model.{key}"] = weight + injection.strength * delta
    config = UNet2DConditionModel.load_config(configs() / "sdxl" / "unet")
    config |= {"in_channels": 4 + method.concat_channels}
    unet = UNet2DConditionModel.from_config(config)
    unet.load_state_dict(convert_ldm_unet_checkpoint(tensors, unet.config))
    return unet.eval()


class NaiveSharing:
    """An attention processor that computes sharing as it is defined."""

    def __init__(self, *args: object) -> None:
        self.args = args

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None):
        tensors, slot, frames, strength, signals = self.args
        layers = (attn.to_q, attn.to_k, attn.to_v, attn.to_out[0])
        base = sharing.Attention(attn.heads, *layers)
        return sharing.reference_attention(
            tensors, slot, base, hidden_states, encoder_hidden_states, frames, strength, signals
        )


class TestSharing:
    @pytest.mark.parametrize("method", SHARED, **IDS)
    def test_the_unet_computes_the_naive_reference(self, method):
        injection, tensors = injection_of(method, strength=0.7), method_tensors(method)
        plain = host(Arch.SD15).pipeline.unet
        naive = copy.deepcopy(plain)
        names, signals = module_names(naive.config), None
        if injection.control is not None:
            signals = sharing.reference_signals(tensors, injection.control)
        for slot, path in enumerate(ATTENTION_SLOTS):
            processor = NaiveSharing(tensors, slot, method.frames, 0.7, signals)
            naive.get_submodule(diffusers_name(names, path)).set_processor(processor)

        with host(Arch.SD15).attached(injection):
            found = output(plain)

        wanted = output(naive)
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3)
        assert not torch.allclose(found, output(plain), atol=0.05)

    def test_sets_and_conditions_do_not_see_each_other(self):
        method = find_method("joint_sd15")
        unet, sample = host(Arch.SD15).pipeline.unet, noise(6, 4, 8, 8)
        other = sample.clone()
        other[3:] += 1
        with host(Arch.SD15).attached(injection_of(method)):
            first, second = output(unet, sample=sample), output(unet, sample=other)
        torch.testing.assert_close(first[:3], second[:3], rtol=1e-4, atol=1e-4)
        assert not torch.allclose(first[3:], second[3:], atol=0.05)

    def test_a_call_without_whole_sets_is_refused(self):
        unet = host(Arch.SD15).pipeline.unet
        with (
            host(Arch.SD15).attached(injection_of(find_method("joint_sd15"))),
            pytest.raises(HostError, match="whole sets of 3"),
        ):
            output(unet, sample=noise(4, 4, 8, 8))

    def test_a_unet_without_the_slots_is_refused(self):
        with pytest.raises(ArchMismatchError, match="32 attention layers"):
            host(Arch.SDXL).attach(injection_of(SHARED[0]))


class TestStopAt:
    @pytest.mark.parametrize("method", KINDS, **IDS)
    @pytest.mark.parametrize(
        ("stop_at", "timestep", "acts"),
        [
            (1.0, 0.0, True),
            (0.5, 500, True),
            (0.5, 499, False),
            (0.25, 750, True),
            (0.25, 749, False),
            (0.0, 999, False),
        ],
    )
    def test_it_acts_in_the_first_part_of_the_schedule(self, method, stop_at, timestep, acts):
        unet = host(method.arch).pipeline.unet
        plain = output(unet, timestep)
        with host(method.arch).attached(injection_of(method, stop_at=stop_at)):
            found = output(unet, timestep)
        assert torch.equal(found, plain) is not acts

    @pytest.mark.parametrize("method", KINDS, **IDS)
    def test_it_goes_off_and_on_within_a_run(self, method):
        unet = host(method.arch).pipeline.unet
        plain = output(unet, 100)
        with host(method.arch).attached(injection_of(method, stop_at=0.5)) as attachment:
            first, after, again = (output(unet, t) for t in (900, 100, 900))
        assert torch.equal(after, plain)
        assert torch.equal(first, again)
        assert attachment.calls == 3

    def test_the_steps_of_a_run_are_counted(self):
        one = host(Arch.SDXL)
        with one.attached(injection_of(KINDS[1], stop_at=0.5)) as attachment:
            one.sample(sampling(one, steps=4))
        assert attachment.calls == 4


def offload_models(pipeline) -> None:
    pipeline.enable_model_cpu_offload(device="cpu")


def offload_layers(pipeline) -> None:
    for part in pipeline.components.values():
        if isinstance(part, nn.Module):
            accelerate.cpu_offload(part, torch.device("cpu"))


@pytest.mark.slow  # Hooks move each module at each call.
class TestOffload:
    @pytest.mark.parametrize("offload", [offload_models, offload_layers])
    @pytest.mark.parametrize("method", thinned(KINDS, 3), **IDS)
    def test_it_changes_where_and_not_what(self, method, offload):
        one, away = host(method.arch), load(method.arch)
        offload(away.pipeline)
        plain = away.sample(sampling(away))
        found = away.sample(sampling(away), injection_of(method, stop_at=0.5))
        wanted = one.sample(sampling(one), injection_of(method, stop_at=0.5))
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3)
        assert torch.equal(away.sample(sampling(away)), plain)
        assert torch.equal(away.pixels(found), one.pixels(found))

    def test_the_sharing_module_leaves_the_device_after_the_run(self, monkeypatch):
        """On the CPU the device's own name tells where it was sent."""
        away, sent = load(Arch.SD15), []
        offload_layers(away.pipeline)
        injection = injection_of(SHARED[0])
        to = AttentionSharing.to
        monkeypatch.setattr(
            AttentionSharing,
            "to",
            lambda net, *args, **more: sent.append((args, more)) or to(net, *args, **more),
        )
        with away.attached(injection):
            ((_, where),) = sent
            assert where["device"] == away.device
        assert sent[1:] == [(("cpu",), {})]

    @pytest.mark.parametrize("offload", [Offload.MODEL, Offload.SEQUENTIAL])
    def test_there_is_nothing_to_offload_from_on_the_cpu(self, offload):
        with pytest.raises(SettingsError, match="Leave offloading out"):
            load(Arch.SD15, offload=offload)


def lora_factors(unet: nn.Module, *modules: str) -> dict[str, tuple[Tensor, Tensor]]:
    found = {}
    for name in modules:
        wide, *inner = unet.get_submodule(name).weight.shape
        up, down = noise(wide, 2, *[1] * (len(inner) - 1)), noise(2, *inner, seed=8)
        found[name] = up / 3, down / 3
    return found


def write_lora(path: Path, unet: nn.Module, *modules: str) -> Path:
    tensors = {}
    for name, (up, down) in lora_factors(unet, *modules).items():
        tensors[f"unet.{name}.lora_A.weight"] = down
        tensors[f"unet.{name}.lora_B.weight"] = up
    save_file(tensors, path)
    return path


BLOCK = "down_blocks.1.attentions.0.transformer_blocks.0"
LAYERS = [f"{BLOCK}.attn{n}.to_{name}" for n in (1, 2) for name in "qkv"]


class TestUserLora:
    @pytest.mark.parametrize("method", [KINDS[0], KINDS[1]], **IDS)
    def test_the_method_acts_on_top_of_it(self, method, tmp_path):
        one, injection = host(method.arch), injection_of(method)
        path = write_lora(tmp_path / "lora.safetensors", one.pipeline.unet, *LAYERS)
        merged = copy.deepcopy(one.pipeline.unet)
        for name, factors in lora_factors(one.pipeline.unet, *LAYERS).items():
            merged.get_submodule(name).weight.data += 0.6 * factors[0] @ factors[1]

        with_lora = load(method.arch, loras=[(path, 0.6)])
        with left_as_it_was(with_lora.pipeline.unet), with_lora.attached(injection):
            found = output(with_lora.pipeline.unet)
        attachment = attach(merged, injection, 1000, torch.device("cpu"))

        torch.testing.assert_close(found, output(merged), rtol=1e-3, atol=1e-3)
        attachment.detach()
        with one.attached(injection):
            assert not torch.allclose(found, output(one.pipeline.unet), atol=1e-2)

    def test_one_on_the_first_convolution_acts_where_that_is_widened(self, tmp_path):
        injection = injection_of(find_method("fg_to_blended_sdxl"))
        one = host(Arch.SDXL)
        path = write_lora(tmp_path / "lora.safetensors", one.pipeline.unet, "conv_in")
        with_lora = load(Arch.SDXL, loras=[(path, 1.0)])
        with one.attached(injection), with_lora.attached(injection):
            plain, changed = (output(each.pipeline.unet) for each in (one, with_lora))
        assert not torch.allclose(plain, changed, atol=1e-2)
