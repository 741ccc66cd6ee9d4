"""Runs one generation on the diffusers host, from settings to layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from torch import Tensor

from ..callbacks import OnProgress, OnShare
from ..codec.transparent import TransparentDecoder
from ..errors import CodecError
from ..hosts.diffusers import DiffusersHost
from ..hosts.diffusers.sampling import sampler_name
from ..imaging.images import ImageU8, to_u8
from ..methods import Layer
from ..nets.full_memory import is_memory_error
from ..pipeline import Session, decode
from .generation import Generation, LayerImage, check_generation
from .generation_parameters import webui_infotext
from .sampled_sets import acting, beginning, sample_together
from .undrawn import KeptLatent, UndrawnError, leaves_latents

SAMPLING, DECODING = "sampling", "transparency"
"""The stages that `run` reports."""


def run(
    job: Generation,
    session: Session,
    host: DiffusersHost,
    *,
    on_progress: OnProgress | None = None,
) -> list[LayerImage]:
    """Returns the job's layers, set by set, in the method's order.

    Args:
        job: What to make.
        session: The layer methods' weights.
        host: The checkpoint.
        on_progress: Called with the stage, the steps done and the steps to do; False stops.

    A foreground whose transparency cannot be found, for want of memory or because the user
    ended the job meanwhile, is given as RGB, with its latent.

    Raises:
        LayerDiffuseError: Something does not fit together or is missing; known before sampling.
        SamplingStopped: `on_progress` returned False before all was sampled.
        UndrawnError: Memory did not suffice, or the user ended the job, when some sets were sampled
            and had not become images; it has their latents.
    """
    check_generation(job, host)
    job = replace(job, sampler=sampler_name(job.sampler))
    method = job.settings.method
    decoder = session.decoder(method.arch) if method.decodes else None
    latents = _sample(job, session, host, on_progress)
    progress = _Progress(on_progress, DECODING, job.sets * 8 if decoder else 0)
    layers: list[LayerImage] = []
    for index, of_set in enumerate(latents):
        try:
            layers += _layers(job, index, of_set, decoder, host, progress)
        except _NoPixelsError as error:
            rest = _kept(job, host, latents[index:], index)
            raise UndrawnError(error.why, job.settings, layers, rest) from error.why
    return layers


def layers_of(
    job: Generation, index: int, of_set: Tensor, session: Session, host: DiffusersHost
) -> list[LayerImage]:
    """Returns the layers of one set that was sampled, in the method's order.

    Args:
        job: What it is of.
        index: The set's number in it.
        of_set: Its latents, `f 4 h w`, sampler's scale.
        session: The layer methods' weights.
        host: The checkpoint.

    Raises:
        LayerDiffuseError: The VAE has no image of it.
    """
    method = job.settings.method
    decoder = session.decoder(method.arch) if method.decodes else None
    try:
        return _layers(job, index, of_set, decoder, host, _Progress(None, DECODING, 0))
    except _NoPixelsError as error:
        raise error.why from error


class _NoPixelsError(Exception):
    """The VAE made no image, and the latents are as good as they were.

    Attributes:
        why: What it raised.
    """

    def __init__(self, why: BaseException) -> None:
        super().__init__(why)
        self.why = why


def _layers(
    job: Generation,
    index: int,
    of_set: Tensor,
    decoder: TransparentDecoder | None,
    host: DiffusersHost,
    progress: _Progress,
) -> list[LayerImage]:
    told: list[str] = []
    try:
        pixels = host.pixels(of_set, on_retry=told.append)
    except BaseException as error:
        if not leaves_latents(error, host):
            raise
        raise _NoPixelsError(error) from error
    layers: list[LayerImage] = []
    outputs = job.settings.method.outputs
    for frame, (layer, seed) in enumerate(zip(outputs, job.seeds(index), strict=True)):
        rgb_u8 = to_u8(pixels[frame].permute(1, 2, 0).numpy())
        before = rgb_u8 if layer is Layer.FG else None
        note = "" if frame else " ".join(told)
        info = _infotext(job, host, seed)
        made = LayerImage(layer, index, seed, rgb_u8, before, info, note=note)
        if layer is Layer.FG and decoder is not None:
            latent = host.vae_latent(of_set[frame])
            find = partial(decode, decoder, host, pixels[frame], latent)
            find = partial(find, views=job.views, compiled=job.compiled)
            made = _decoded(made, find, host, latent, progress)
        layers.append(made)
    return layers


def _decoded(
    made: LayerImage,
    find: Callable[..., ImageU8],
    host: DiffusersHost,
    vae_latent: Tensor,
    progress: _Progress,
) -> LayerImage:
    """Returns a foreground with its transparency; where it cannot be found, with its latent."""
    told = [made.note] if made.note else []
    try:
        if progress.stopped():
            raise KeyboardInterrupt
        report = progress.of_part(made.set_index)
        rgba = find(on_view=report, on_retry=told.append)
    except KeyboardInterrupt:
        progress.stop()
        why = "The job was interrupted."
    except Exception as error:
        if not isinstance(error, CodecError) and not is_memory_error(error, host.memory_errors()):
            raise
        why = str(error)
    else:
        if progress.stopped():
            told.append("interrupted before its last view, so edges are rougher.")
        return replace(made, image=rgba, note=" ".join(told), interrupted=progress.stopped())
    note = (
        f"a foreground stays RGB, without transparency. {why} Its latent is kept beside it: "
        "`layerdiffuse decode` makes the image transparent with it."
    )
    note = f"{made.note} {note}".lstrip()
    return replace(made, latent=vae_latent.cpu(), note=note, interrupted=progress.stopped())


def _sample(
    job: Generation, session: Session, host: DiffusersHost, on_progress: OnProgress | None
) -> list[Tensor]:
    """Returns each set's latents `f 4 h w`; the sets run one by one, so that memory is one's."""
    begin = beginning(job, session, host)
    progress = _Progress(on_progress, SAMPLING, 0)
    done: list[Tensor] = []
    with acting(begin, host):
        for index in range(job.sets):
            report = progress.of_set(index, job.sets)
            try:
                done += sample_together([(job, index, begin)], host, report)
            except BaseException as error:
                if not done or not leaves_latents(error, host):
                    raise
                raise UndrawnError(error, job.settings, (), _kept(job, host, done)) from error
    return done


def _kept(
    job: Generation, host: DiffusersHost, latents: Sequence[Tensor], first: int = 0
) -> list[KeptLatent]:
    """Returns sampled sets, from number `first` on, layer by layer."""
    return [
        KeptLatent(layer, index, seed, host.vae_latent(latent).cpu())
        for index, of_set in enumerate(latents, first)
        for layer, seed, latent in zip(
            job.settings.method.outputs, job.seeds(index), of_set, strict=True
        )
    ]


def _infotext(job: Generation, host: DiffusersHost, seed: int) -> str:
    loras: Sequence[tuple[str, float]] = [(path.stem, weight) for path, weight in host.loras]
    on = replace(job, settings=replace(job.settings, enabled=True))
    return webui_infotext(on, seed=seed, model=host.name, model_hash=host.model_hash, loras=loras)


class _Progress:
    """One stage's progress over all sets, and whether the user stopped it."""

    def __init__(self, on_progress: OnProgress | None, stage: str, total: int) -> None:
        self._on_progress, self._stage, self._total = on_progress, stage, total
        self._stopped = False

    def _report(self, done: int, total: int) -> bool:
        if self._on_progress is not None and self._on_progress(self._stage, done, total) is False:
            self._stopped = True
        return not self._stopped

    def stop(self) -> None:
        """Notes that the user ended the job."""
        self._stopped = True

    def stopped(self) -> bool:
        """Whether the user ended the job."""
        return self._stopped

    def of_set(self, index: int, sets: int) -> OnShare:
        """Returns what one set's sampling reports to."""
        return lambda done, total: self._report(index * total + done, sets * total)

    def of_part(self, index: int) -> OnShare:
        """Returns what one image's decoding reports to."""
        return lambda done, total: self._report(index * total + done, self._total)
