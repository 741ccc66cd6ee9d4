"""An injection on diffusers' UNet: what it computes, and that nothing is left of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

pytest.importorskip("diffusers", minversion="0.41", reason="the standalone host needs it")

import accelerate
from diffusers_run import Run
from host_run import HIGH, near
from thinned import thinned
from tiny_diffusers import host, load
from torch import nn

from lib_layerdiffuse.errors import SettingsError
from lib_layerdiffuse.hosts.diffusers import DiffusersHost, Offload, Sampling, SamplingStopped
from lib_layerdiffuse.methods import METHODS, Arch, PatchKind, find_method
from lib_layerdiffuse.nets.attention_sharing import AttentionSharing

IDS = {"ids": lambda method: method.id}
PATCHED = [m for m in METHODS if m.patch is PatchKind.WEIGHTS]
KINDS = [find_method(name) for name in ("bg_to_fg_sd15", "fg_attn_sdxl", "bg_blended_to_fg_sdxl")]


injection_of = Run().injection


@contextmanager
def left_as_it_was(one: DiffusersHost) -> Iterator[None]:
    run = Run(one)
    before = run.snapshot()
    yield
    run.assert_as_before(before)


def sampling(host: DiffusersHost, rows: int = 6, **more: object) -> Sampling:
    given = {"steps": 2, "cfg": 5.0, "sampler": "Euler a", "width": 64, "height": 64}
    return Sampling(["a cat"] * rows, [""] * rows, list(range(rows)), **(given | more))


class TestRestoring:
    @pytest.mark.parametrize("method", thinned(KINDS, 3), **IDS)
    def test_after_a_run(self, method):
        one = host(method.arch)
        with left_as_it_was(one):
            plain = one.sample(sampling(one))
            changed = one.sample(sampling(one), injection_of(method))
            assert torch.equal(one.sample(sampling(one)), plain)
        assert not torch.allclose(changed, plain, atol=1e-2)

    @pytest.mark.parametrize("method", KINDS, **IDS)
    @pytest.mark.parametrize("error", thinned([RuntimeError, KeyboardInterrupt], 2))
    def test_after_an_error_in_a_step(self, method, error):
        def fail(done: int, total: int) -> bool:
            raise error("in a step")

        one = host(method.arch)
        with left_as_it_was(one), pytest.raises(error, match="in a step"):
            one.sample(sampling(one, on_step=fail), injection_of(method))

    @pytest.mark.parametrize("method", KINDS, **IDS)
    def test_after_the_user_stopped_it(self, method):
        seen = []
        one = host(method.arch)
        stopped = sampling(one, steps=5, on_step=lambda *step: bool(seen.append(step)))
        with left_as_it_was(one), pytest.raises(SamplingStopped):
            one.sample(stopped, injection_of(method))
        assert seen == [(1, 5)]

    @pytest.mark.parametrize("dtype", thinned([torch.float16, torch.bfloat16], 2))
    @pytest.mark.parametrize("method", thinned(KINDS, 2), **IDS)
    def test_bit_by_bit_in_half_precision(self, method, dtype):
        one = load(method.arch, dtype=dtype)
        with left_as_it_was(one):
            one.sample(sampling(one, steps=1), injection_of(method))


class TestPatches:
    @pytest.mark.parametrize("method", thinned(PATCHED, 3), **IDS)
    def test_the_unet_is_that_of_a_checkpoint_with_the_patches_merged(self, method):
        """Of each published file all tensors have a place; parameter by parameter."""
        run, given = Run(), injection_of(method, strength=0.7)
        run.open(method).load(given)
        found, parameters = run.call(HIGH), run.parameters()
        run.end()
        expected = run.defined(given, {}, {})
        for name, value in expected.parameters().items():
            torch.testing.assert_close(parameters[name], value, rtol=0, atol=1e-6)
        near(found, expected.call(HIGH), 1e-4)


class TestSteps:
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


class TestOffload:
    @pytest.mark.slow  # Hooks move each module at each call.
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
        injection = injection_of(find_method("fg_attn_sd15"))
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
