"""A sampling pass: what is put on its UNet before, and the latents that it leaves."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import wraps
from typing import Any

from torch import Tensor

from ...errors import HostError
from ...host import Host
from ...pipeline import Session, check_arch, inject
from ...settings.layer_settings import LayerSettings
from . import hires
from .abort import abort
from .backend import loaded, using
from .checks import check_capabilities
from .init_images import cut_settings
from .job import Job, job_of
from .progress import stopped

_ATTACHES = "layerdiffuse_attaches"


def checked(p: Any, settings: LayerSettings) -> Host:
    """Returns the loaded checkpoint if the method can act on it as the job wants it to.

    Raises:
        ArchMismatchError: It is of another family.
        MissingCapabilityError: It lacks something, or the host does.
    """
    host, method = loaded(p), settings.method
    check_arch(method, host.arch())
    host.check(method)
    check_capabilities(p, settings, host.capabilities)
    return host


def prepare(p: Any, job: Job, session: Session, x: Tensor) -> None:
    """Has the coming pass's sampler put the method on the UNet when it starts.

    By then every script has had the UNet: the method sees what they have put on it, and nothing
    comes between the two.

    Args:
        p: The host's processing object.
        job: The job.
        session: Where the weights are.
        x: What the pass starts from, `b 4 h w`.

    Raises:
        LayerDiffuseError: The method cannot act on this checkpoint or batch.
    """
    job.batch.detach()  # The host may call twice for a pass.
    host = checked(p, job.settings)
    second = bool(getattr(p, "is_hr_pass", False))
    if second:
        hires.keep_latent(p, job)
        if job.first_image is not None:
            encoder = session.encoder(job.settings.method.arch)
            hires.start_transparent(p, job, host, encoder, x)
    if not job.settings.acts:
        return
    height, width = (8 * side for side in x.shape[2:])
    of = (second, width, height)
    batch = job.batch
    if batch.injection is None or batch.injection[0] != of:
        settings = cut_settings(p, job)
        batch.injection = of, inject(settings, session, host, width, height)
    batch.pending = batch.injection[1]
    _attach_at_start(p.sampler)


def _attach_at_start(sampler: Any) -> None:
    """Has a sampler put on what is pending whenever it starts; img2img has one for all batches.

    The hooks of other extensions may come after ours. The sampler outlives the job, so it knows
    nothing of it.
    """

    def attaching(inner: Any) -> Any:
        @wraps(inner)
        def sample(p: Any, x: Tensor, *args: Any, **kwargs: Any) -> Any:
            with _attached(p, x):
                return inner(p, x, *args, **kwargs)

        return sample

    if getattr(sampler, _ATTACHES, False):
        return
    setattr(sampler, _ATTACHES, True)
    for name in ("sample", "sample_img2img"):
        inner = getattr(sampler, name, None)
        if inner is not None:
            setattr(sampler, name, attaching(inner))


def _attached(p: Any, x: Tensor) -> AbstractContextManager[None]:
    job = job_of(p)
    if job is None or job.batch.pending is None:
        return nullcontext()
    injection, job.batch.pending = job.batch.pending, None
    host = loaded(p)
    try:
        host.check_patched(job.settings.method, x)
        attachment = job.batch.attachment = host.attach(injection)
    except Exception as error:
        raise abort(p, error) from error
    return using(p, attachment)


def end(p: Any, job: Job) -> None:
    """Ends the injection of the pass just sampled.

    Raises:
        HostError: The pass did not go through the method, though the UNet ran and nobody stopped
            it.
    """
    acted = job.batch.attachment is not None and job.batch.attachment.calls
    job.batch.detach()
    if job.settings.acts and not acted and not stopped() and not _is_idle(p, job):
        raise HostError(
            "The layer method did not act: another extension has replaced the UNet or its sampler.",
            "Turn off extensions that sample in a way of their own.",
        )


def _is_idle(p: Any, job: Job) -> bool:
    """Whether img2img was to change so little that its sampler has not taken a step."""
    denoiser = getattr(p.sampler, "model_wrap_cfg", None)
    return job.init is not None and getattr(denoiser, "step", None) == 0


def keep_latents(p: Any, job: Job, samples: Any) -> None:
    """Keeps a batch's latents for the decoder.

    Args:
        p: The host's processing object.
        job: The job.
        samples: What the host has sampled: latents, or pixels after hires fix.

    Raises:
        HostError: There are no latents.
    """
    latents = job.batch.second_pass if getattr(samples, "already_decoded", False) else samples
    if latents is None:
        raise HostError(
            "The second pass of Hires. fix left no latents: another extension has sampled it.",
            "Turn off extensions that change Hires. fix.",
        )
    job.batch.vae_latents = loaded(p).vae_latent(latents)
