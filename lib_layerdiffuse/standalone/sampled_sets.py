"""Sets of layers that are sampled: what they begin with, and several of them in one batch."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from ..callbacks import OnShare
from ..host import Injection
from ..hosts.diffusers import DiffusersHost, Sampling
from ..hosts.diffusers.prompt_changes import put_before_each
from ..imaging.images import as_rgba, fit, flatten
from ..methods import Layer
from ..pipeline import Session, encode, first_image, image_tensor, inject, layer_prompts
from .generation import Generation


@dataclass(frozen=True, eq=False)
class Beginning:
    """What all sets of a job begin with.

    Attributes:
        injection: What the UNet does; None where the method does not act.
        init: Latents `f 4 h w`, sampler's scale; None for noise.
    """

    injection: Injection | None
    init: Tensor | None


SetToSample = tuple[Generation, int, Beginning]
"""A job, the number of one of its sets, and what that begins with."""


def beginning(job: Generation, session: Session, host: DiffusersHost) -> Beginning:
    """Returns what a job's sets begin with; encodes the images that it was given.

    Raises:
        LayerDiffuseError: A weight file cannot be used, or an image cannot be encoded.
    """
    init = _init_latents(job, session, host)
    if not job.settings.acts:
        return Beginning(None, init)
    return Beginning(inject(job.settings, session, host, job.width, job.height), init)


def acting(begin: Beginning, host: DiffusersHost) -> AbstractContextManager[object]:
    """Returns a block in which the method acts on the UNet."""
    return nullcontext() if begin.injection is None else host.attached(begin.injection)


def sample_together(
    sets: Sequence[SetToSample], host: DiffusersHost, on_step: OnShare | None = None
) -> list[Tensor]:
    """Returns the latents of each set, `f 4 h w`, sampler's scale, made in one batch.

    Args:
        sets: They differ in prompts, seeds and init latents only; the method acts already.
        host: The checkpoint.
        on_step: As in `Sampling`.

    Raises:
        LayerDiffuseError: It cannot be done.
        SamplingStopped: `on_step` returned False.
    """
    first, _, begin = sets[0]
    frames = first.settings.method.frames
    inits = [one.init for _, _, one in sets if one.init is not None]
    made = host.sample(
        Sampling(
            prompts=[prompt for job, _, _ in sets for prompt in _prompts(job)],
            negative_prompts=[prompt for job, _, _ in sets for prompt in _negative_prompts(job)],
            seeds=[seed for job, index, _ in sets for seed in job.seeds(index)],
            width=first.width,
            height=first.height,
            steps=first.steps,
            cfg=first.cfg,
            sampler=first.sampler,
            init=torch.cat(inits) if begin.init is not None else None,
            denoise=first.denoise,
            on_step=on_step,
        )
    )
    return list(made.split(frames))


def _prompts(job: Generation) -> list[str]:
    given = [job.prompt] * job.settings.method.frames
    return layer_prompts(job.settings, given, False, put_before_each)


def _negative_prompts(job: Generation) -> list[str]:
    given = [job.negative_prompt] * job.settings.method.frames
    return layer_prompts(job.settings, given, negative=True)


def _init_latents(job: Generation, session: Session, host: DiffusersHost) -> Tensor | None:
    """Returns what every set begins with, `f 4 h w`, sampler's scale, or None for noise.

    The foreground's frame begins with the transparent image's latent, the others with what
    `first_image` says, flattened on grey.
    """
    if job.init is None:
        return None
    method = job.settings.method
    rgba = fit(as_rgba(job.init), job.width, job.height, job.settings.resize_mode)

    def latent(layer: Layer) -> Tensor:
        if layer is Layer.FG:
            return encode(session.encoder(method.arch), host, rgba)
        flat = flatten(first_image(job.settings, layer, rgba))
        return host.encode(image_tensor(flat))

    return torch.cat([latent(layer) for layer in method.outputs])
