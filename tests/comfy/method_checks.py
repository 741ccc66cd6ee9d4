"""Each method draws, on rows of whole sets, and leaves nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from host_run import near
from small_runs import COMFY, CONTROL, JOINT, WIDER, assert_nothing_left, attached, bits, expect
from tiny_comfy import conditioning, sample, tiny_model, tiny_vae
from torch import Tensor

from lib_layerdiffuse.errors import BatchSizeError, HostError, ImageSizeError
from lib_layerdiffuse.hosts.comfy import ComfyHost
from lib_layerdiffuse.methods import METHODS, Arch

CALLS: dict[str, np.ndarray] = {}
"""Each method's first UNet call, by the method's id and what it is."""


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
