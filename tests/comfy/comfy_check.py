# ruff: noqa: E402, I001 - What is imported reads what is set before.
"""Checks of the adapter in ComfyUI's own code, on small checkpoints: a minute, without its server.

    venv/bin/python …/tests/comfy/comfy_check.py COMFYUI RESULTS

Runs in ComfyUI's interpreter and ends with an error if a check fails.

Args:
    COMFYUI: Folder of its checkout.
    RESULTS: File to write each method's UNet calls to, an ``.npz``; `test_comfy.py` compares them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
_, COMFYUI, RESULTS = sys.argv
sys.path[:0] = [COMFYUI, *(str(ROOT / name) for name in ("", "tests/fakes", "tests/comfy"))]

import tiny_comfy  # First: it tells ComfyUI that there is no GPU.
import comfy.lora
import comfy.model_management
import comfy.supported_models
import numpy as np
import torch
from host_run import injection, near
from torch import Tensor

from lib_layerdiffuse.errors import (
    BatchSizeError,
    HostError,
    ImageSizeError,
    LayerDiffuseError,
    MissingCapabilityError,
)
from lib_layerdiffuse.hosts.comfy import ComfyHost
from lib_layerdiffuse.hosts.comfy.comfy_dialect import dialect
from lib_layerdiffuse.methods import METHODS, Arch, LayerMethod, find_method

conditioning, method_file = tiny_comfy.conditioning, tiny_comfy.method_file
sample, tiny_model, tiny_vae = tiny_comfy.sample, tiny_comfy.tiny_model, tiny_comfy.tiny_vae
COMFY = dialect()
JOINT, CONTROL = find_method("joint_sd15"), find_method("bg_to_fg_sd15")
SDXL_FG, WIDER = find_method("fg_attn_sdxl"), find_method("fg_blended_to_bg_sdxl")
QUERIES = "diffusion_model.input_blocks.4.1.transformer_blocks.0.attn1.to_q.weight"
CONV_IN = "diffusion_model.input_blocks.0.0.weight"
CALLS: dict[str, np.ndarray] = {}


def attached(model: Any, method: LayerMethod, **more: Any) -> Any:
    """Returns a MODEL with a method's small file on it."""
    host = ComfyHost(COMFY, model)
    host.check(method)
    return host.attach(injection(method, file=method_file, **more)).unet


def bits(model: Any) -> dict[str, Tensor]:
    """Returns a copy of the UNet's weights."""
    return {key: value.clone() for key, value in model.model.state_dict().items()}


def assert_nothing_left(model: Any, before: dict[str, Tensor], plain: Tensor, **run: Any) -> None:
    """Checks that a MODEL without a method samples bit for bit as before, in the same weights."""
    arch = Arch.SDXL if isinstance(model.model.model_config, Sdxl) else Arch.SD15
    assert torch.equal(sample(model, arch, **run), plain)
    now = model.model.state_dict()
    assert list(now) == list(before)
    assert all(torch.equal(now[key], value) for key, value in before.items())
    for name, module in model.model.named_modules():
        assert "forward" not in vars(module), name
        assert not [*module._forward_hooks, *module._forward_pre_hooks], name


Sdxl = comfy.supported_models.SDXL


def expect(kind: type[LayerDiffuseError], said: str, run: Callable[[], Any]) -> None:
    """Checks that something is refused, in words."""
    text = ""
    try:
        run()
    except kind as error:
        text = str(error)
    assert said in text, text or f"not refused: {said}"
    assert not any(word in text for word in ("WebUI", "extension", "job")), text


def every_method_acts_and_leaves_nothing() -> None:
    for method in METHODS:
        model = tiny_model(method.arch)
        run = {"batch": 2 * method.frames, "steps": 2}
        plain, before = sample(model, method.arch, **run), bits(model)
        unet = attached(model, method)
        with recorded(model, method.id):
            first = sample(unet, method.arch, **run)
        assert not torch.allclose(first, plain, atol=1e-2 * plain.abs().max()), method.id
        assert torch.equal(sample(unet, method.arch, **run), first), method.id
        assert_nothing_left(model, before, plain, **run)


@contextmanager
def recorded(model: Any, name: str) -> Iterator[None]:
    """Notes what the UNet is given and gives in its first call."""

    def note(_: Any, given: tuple[Any, ...], more: dict[str, Any], out: Tensor) -> None:
        if f"{name} out" not in CALLS:
            x, timesteps = given
            parts = {"x": x, "timesteps": timesteps, "context": more["context"], "out": out}
            parts |= {"y": more["y"]} if "y" in more else {}
            CALLS.update({f"{name} {key}": value.numpy() for key, value in parts.items()})

    hook = model.model.diffusion_model.register_forward_hook(note, with_kwargs=True)
    yield
    hook.remove()


def rows_of_a_batch_are_whole_sets() -> None:
    for method in (JOINT, CONTROL):
        model = tiny_model(Arch.SD15)
        unet, frames = attached(model, method), method.frames
        prompts = conditioning(Arch.SD15, rows=frames, seed=5)
        both = sample(unet, Arch.SD15, batch=2 * frames, positive=prompts)
        one = sample(unet, Arch.SD15, batch=frames, positive=prompts)
        near(both[:frames], one, 1e-4)  # The first set has the same noise.
        expect(
            BatchSizeError,
            f"multiple of {frames}",
            lambda unet=unet, frames=frames: sample(unet, Arch.SD15, batch=frames + 1),
        )
        near(sample(unet, Arch.SD15, batch=frames, positive=prompts), one, 0)


def prompts_of_other_lengths_share_a_call() -> None:
    unet = attached(tiny_model(Arch.SD15), JOINT)
    long = conditioning(Arch.SD15, rows=3, seed=5, tokens=154)
    assert sample(unet, Arch.SD15, batch=3, positive=long).isfinite().all()


def combined_conditionings_are_their_mean() -> None:
    for method in (JOINT, WIDER):
        unet = attached(tiny_model(method.arch), method)
        a, b = (conditioning(method.arch, seed=seed) for seed in (11, 12))
        run = {"batch": method.frames, "steps": 1, "cfg": 1.0}
        one, other, combined = (
            sample(unet, method.arch, positive=of, **run) for of in (a, b, [*a, *b])
        )
        near(combined, (one + other) / 2, 1e-4)


def areas_are_right_or_refused() -> None:
    area = [[entry, more | {"area": (8, 4, 0, 4)}] for entry, more in conditioning(Arch.SD15)]
    run = {"positive": [*conditioning(Arch.SD15, seed=4), *area]}
    found = sample(attached(tiny_model(Arch.SD15), JOINT), Arch.SD15, batch=3, **run)
    assert found.isfinite().all()
    control = attached(tiny_model(Arch.SD15), CONTROL)
    expect(HostError, "parts of", lambda: sample(control, Arch.SD15, batch=2, **run))
    mask = torch.zeros(1, 8, 8)
    mask[..., :4] = 1
    masked = [[entry, more | {"mask": mask}] for entry, more in conditioning(Arch.SDXL, seed=4)]
    wider = attached(tiny_model(Arch.SDXL), WIDER)
    assert sample(wider, Arch.SDXL, positive=masked).isfinite().all()
    wide = {"size": (8, 16)}
    expect(ImageSizeError, "64×64", lambda: sample(wider, Arch.SDXL, **wide))


def context_windows_are_refused() -> None:
    unet = attached(tiny_model(Arch.SD15), JOINT)
    unet.model_options["context_handler"] = object()
    expect(MissingCapabilityError, "indows", lambda: sample(unet, Arch.SD15, batch=3))


def stopping_is_a_plain_run_after_a_run_with_the_method() -> None:
    """By the widget and by two samplers, with a user's LoRA from a node after the method's."""
    for method in (JOINT, WIDER):
        model, arch = tiny_model(method.arch), method.arch
        plain, before = sample(model, arch, batch=method.frames), bits(model)
        user = users(model)
        run = {"batch": method.frames, "steps": 6}
        whole, stopped = attached(model, method), attached(model, method, stop_at=0.5)
        whole, stopped, alone = (with_lora(one, user) for one in (whole, stopped, model))
        switch = first_below(model, 6)
        assert 0 < switch < 6
        half = sample(whole, arch, **run, last_step=switch)
        two = sample(alone, arch, **run, latent=half, start_step=switch, noise_of=0.0)
        found = sample(stopped, arch, **run)
        near(found, two, 1e-3)
        assert torch.equal(sample(stopped, arch, **run), found), method.id
        wrong = sample(alone, arch, **run)
        assert not torch.allclose(found, wrong, atol=1e-2 * found.abs().max())
        never = attached(model, method, stop_at=0.0)
        near(sample(never, arch, batch=method.frames), plain, 0)
        assert_nothing_left(model, before, plain, batch=method.frames)


def first_below(model: Any, steps: int) -> int:
    """Returns the first step whose sigma is below that of the half of the schedule."""
    end = model.get_model_object("model_sampling").percent_to_sigma(0.5)
    sampling = model.get_model_object("model_sampling")
    sigmas = comfy.samplers.calculate_sigmas(sampling, "normal", steps)
    return next(step for step, sigma in enumerate(sigmas) if sigma < end)


def users(model: Any) -> dict[str, Any]:
    """Returns a user's LoRA that changes attention and the first convolution."""
    generator = torch.Generator().manual_seed(21)
    weights = model.model.state_dict()
    return {
        key: ("diff", (torch.randn(weights[key].shape, generator=generator) / 8,))
        for key in (QUERIES, CONV_IN)
    }


def with_lora(model: Any, patches: dict[str, Any]) -> Any:
    """Returns a MODEL as Load LoRA gives it."""
    unet = model.clone()
    assert set(unet.add_patches(patches, 1.0)) == set(patches)
    return unet


def a_users_lora_counts_before_and_after_the_method() -> None:
    for method in (JOINT, WIDER):
        model, arch = tiny_model(method.arch), method.arch
        user, run = users(model), {"batch": method.frames}
        without = sample(attached(model, method), arch, **run)
        below = sample(attached(with_lora(model, user), method), arch, **run)
        above = sample(with_lora(attached(model, method), user), arch, **run)
        near(above, below, 1e-4)
        assert not torch.allclose(below, without, atol=1e-2 * without.abs().max())


def what_is_accepted_and_not_merged_is_an_error() -> None:
    model = tiny_model(Arch.SDXL)
    plain, before = sample(model, Arch.SDXL), bits(model)
    unet = attached(model, WIDER)
    inner = comfy.lora.calculate_weight
    comfy.lora.calculate_weight = lambda patches, weight, *_, **__: weight
    try:
        expect(HostError, "has not merged", lambda: sample(unet, Arch.SDXL))
    finally:
        comfy.lora.calculate_weight = inner
    assert_nothing_left(model, before, plain)


def weights_that_do_not_fit_are_merged_in_each_call() -> None:
    model = tiny_model(Arch.SDXL)
    plain, before = sample(model, Arch.SDXL), bits(model)
    for stop_at in (1.0, 0.5):
        wanted = sample(attached(model, WIDER, stop_at=stop_at), Arch.SDXL)
        comfy.model_management.unload_all_models()
        load = comfy.model_patcher.ModelPatcher.load

        def partly(self: Any, *given: Any, load: Any = load, **more: Any) -> Any:
            return load(self, *given, **more | {"lowvram_model_memory": 0.1, "full_load": False})

        comfy.model_patcher.ModelPatcher.load = partly
        try:
            unet = attached(model, WIDER, stop_at=stop_at)
            found = sample(unet, Arch.SDXL)
            assert model.model.model_lowvram
        finally:
            comfy.model_patcher.ModelPatcher.load = load
        near(found, wanted, 1e-4)
        comfy.model_management.unload_all_models()
        assert_nothing_left(model, before, plain)


def an_interrupt_leaves_nothing() -> None:
    for method in (JOINT, WIDER):
        model, arch = tiny_model(method.arch), method.arch
        run = {"batch": method.frames}
        plain, before = sample(model, arch, **run), bits(model)
        unet = attached(model, method, stop_at=0.5)
        for step in (0, 3):

            def stop(at: int, *_: Any, step: int = step) -> None:
                if at == step:
                    raise Interrupt

            assert interrupted(unet, arch, **run, callback=stop)
            assert_nothing_left(model, before, plain, **run)


def an_interrupt_in_the_midst_of_merging_leaves_nothing() -> None:
    model = tiny_model(Arch.SDXL)
    plain, before = sample(model, Arch.SDXL), bits(model)
    unet = attached(model, WIDER)
    merge, done = comfy.lora.calculate_weight, []

    def broken(patches: Any, weight: Tensor, key: str, *given: Any, **more: Any) -> Tensor:
        done.append(key)
        if len(done) == 3:
            raise Interrupt
        return merge(patches, weight, key, *given, **more)

    comfy.lora.calculate_weight = broken
    try:
        assert interrupted(unet, Arch.SDXL)
    finally:
        comfy.lora.calculate_weight = merge
    assert_nothing_left(model, before, plain)


def interrupted(model: Any, arch: Arch, **run: Any) -> bool:
    """Whether sampling ends by an interrupt."""
    try:
        sample(model, arch, **run)
    except Interrupt:
        return True
    return False


Interrupt = comfy.model_management.InterruptProcessingException


def other_families_are_refused() -> None:
    model = tiny_model(Arch.SDXL)
    for name in ("SSD1B", "Segmind_Vega", "KOALA_700M", "KOALA_1B", "SDXL_instructpix2pix"):
        kind = getattr(comfy.supported_models, name)
        model.model.model_config.__class__ = kind
        host = ComfyHost(COMFY, model)
        assert host.arch() is None
        expect(MissingCapabilityError, name, lambda host=host: host.check(SDXL_FG))
    model.model.model_config.__class__ = comfy.supported_models.SD20
    expect(MissingCapabilityError, "SD20", lambda: ComfyHost(COMFY, model).check(SDXL_FG))


def a_second_method_is_refused() -> None:
    unet = attached(tiny_model(Arch.SDXL), SDXL_FG)
    expect(MissingCapabilityError, "already", lambda: attached(with_lora(unet, {}), SDXL_FG))


def attention_of_others_is_refused_or_runs() -> None:
    unet = attached(tiny_model(Arch.SD15), JOINT)
    replaced = unet.clone()
    replaced.set_model_attn2_replace(lambda q, *_: q, "input", 4)
    expect(
        MissingCapabilityError,
        "replace the attention",
        lambda: sample(replaced, Arch.SD15, batch=3),
    )
    merged = unet.clone()
    merged.set_model_attn1_patch(lambda q, k, v, _: (q.roll(1, 0), k, v))
    expect(MissingCapabilityError, "regroup", lambda: sample(merged, Arch.SD15, batch=3))
    after = unet.clone()
    after.set_model_attn1_output_patch(lambda n, _: 2 * n)
    found, plain = (sample(one, Arch.SD15, batch=3) for one in (after, unet))
    assert not torch.allclose(found, plain)


def the_posterior_is_the_vaes() -> None:
    vae = tiny_vae()
    image = torch.rand(2, 3, 64, 48, generator=torch.Generator().manual_seed(0))
    for arch in Arch:
        host = ComfyHost(COMFY, tiny_model(arch), vae)
        mean, std = host.posterior(image)
        near(mean, vae.encode(image.movedim(1, -1)), 1e-4)
        assert (std > 0).all()
        scale = 0.18215 if arch is Arch.SD15 else 0.13025
        near(host.encode(image), scale * mean, 1e-4)
        near(host.vae_latent(host.sampler_latent(mean)), mean, 1e-6)


CHECKS = [
    every_method_acts_and_leaves_nothing,
    rows_of_a_batch_are_whole_sets,
    prompts_of_other_lengths_share_a_call,
    combined_conditionings_are_their_mean,
    areas_are_right_or_refused,
    context_windows_are_refused,
    stopping_is_a_plain_run_after_a_run_with_the_method,
    a_users_lora_counts_before_and_after_the_method,
    what_is_accepted_and_not_merged_is_an_error,
    weights_that_do_not_fit_are_merged_in_each_call,
    an_interrupt_leaves_nothing,
    an_interrupt_in_the_midst_of_merging_leaves_nothing,
    other_families_are_refused,
    a_second_method_is_refused,
    attention_of_others_is_refused_or_runs,
    the_posterior_is_the_vaes,
]

if __name__ == "__main__":
    torch.set_num_threads(1)
    with torch.inference_mode():
        for check in CHECKS:
            check()
            print(f"checked: {check.__name__}", flush=True)
    np.savez(RESULTS, **CALLS)
