"""Patches that come and go: stop-at, a user's LoRAs, what is not merged, interrupts."""

from __future__ import annotations

from typing import Any

import comfy.lora
import comfy.model_management
import comfy.model_patcher
import torch
from host_run import near
from small_runs import (
    JOINT,
    WIDER,
    Interrupt,
    assert_nothing_left,
    attached,
    bits,
    expect,
    first_below,
    interrupted,
    users,
    with_lora,
)
from tiny_comfy import sample, tiny_model
from torch import Tensor

from lib_layerdiffuse.errors import HostError
from lib_layerdiffuse.methods import Arch


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
