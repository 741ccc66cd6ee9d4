"""One job from settings to layers, on the diffusers host."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..codec.transparent import LATENT_CELL
from ..errors import BatchSizeError, ImageSizeError, SettingsError
from ..imaging.images import as_rgba, fit, flatten, to_u8
from ..methods import Layer
from ..pipeline import (
    Session,
    check_arch,
    decode,
    encode,
    first_picture,
    inject,
    layer_prompts,
    picture_tensor,
)
from ..settings.layer_settings import LayerSettings, Picture

if TYPE_CHECKING:
    from ..hosts.diffusers import DiffusersHost, Sampling

SAMPLING, DECODING = "sampling", "transparency"
"""The stages that `run` reports."""

MIN_SIDE = 64
_MAX_SEED = 2**63

OnProgress = Callable[[str, int, int], bool]
PictureU8 = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Job:
    """What to make.

    Attributes:
        settings: The method, its strength and its pictures.
        prompt: The main prompt, in the WebUI's syntax for emphasis.
        width: Pixels, a multiple of 8; likewise `height`.
        sets: How many sets of layers.
        seed: Of the first layer of the first set; each further layer has the next one.
        steps: Steps of the whole schedule.
        cfg: Scale of the guidance.
        sampler: Its name in the WebUI.
        init: A picture to begin with, `h w 3|4`, straight alpha, uint8 or float in [0, 1].
        denoise: How much of the schedule is run on it.
    """

    settings: LayerSettings
    prompt: str
    negative_prompt: str = ""
    width: int = 1024
    height: int = 1024
    sets: int = 1
    seed: int = 0
    steps: int = 20
    cfg: float = 7.0
    sampler: str = "DPM++ 2M SDE Karras"
    init: Picture | None = None
    denoise: float = 0.75

    def seeds(self, index: int) -> list[int]:
        """Returns the seeds of one set's layers."""
        frames = self.settings.method.frames
        return [self.seed + index * frames + frame for frame in range(frames)]


@dataclass(frozen=True, eq=False)
class LayerPicture:
    """One layer of one set.

    Attributes:
        layer: Which.
        set_index: Of which set, from 0.
        seed: Its own.
        picture: `H W 4` straight RGBA for the foreground, `H W 3` for the others.
        before_decode: For the foreground, what the VAE made of it, `H W 3`.
        infotext: What the WebUI would write into the file.
    """

    layer: Layer
    set_index: int
    seed: int
    picture: PictureU8
    before_decode: PictureU8 | None
    infotext: str


def run(
    job: Job,
    session: Session,
    host: DiffusersHost,
    *,
    on_progress: OnProgress | None = None,
) -> list[LayerPicture]:
    """Returns the job's layers, set by set, in the method's order.

    Args:
        job: What to make.
        session: The layer methods' weights.
        host: The checkpoint.
        on_progress: Called with the stage, the steps done and the steps to do; False stops.

    Raises:
        LayerDiffuseError: Something does not fit together or is missing; known before sampling.
        SamplingStopped: `on_progress` returned False.
    """
    check_job(job, host)
    method = job.settings.method
    decoder = session.decoder(method.arch) if method.decodes else None
    latents = _sample(job, session, host, on_progress)
    progress = _Progress(on_progress, DECODING, job.sets * 8 if decoder else 0)
    layers = []
    for index, of_set in enumerate(latents):
        pixels = host.pixels(of_set)
        for frame, (layer, seed) in enumerate(zip(method.outputs, job.seeds(index), strict=True)):
            rgb_u8 = to_u8(pixels[frame].permute(1, 2, 0).numpy())
            picture = rgb_u8
            if layer is Layer.FG and decoder is not None:
                latent = host.vae_latent(of_set[frame])
                picture = decode(
                    decoder, host, pixels[frame], latent, on_view=progress.of_part(index)
                )
                progress.check()
            before = rgb_u8 if layer is Layer.FG else None
            info = _infotext(job, host, seed)
            layers.append(LayerPicture(layer, index, seed, picture, before, info))
    return layers


def check_job(job: Job, host: DiffusersHost) -> None:
    """Checks what can be known without the weight files.

    Raises:
        SettingsError: A value is out of range, a picture missing or of the wrong kind, or the
            checkpoint of another family.
        MissingCapabilityError: The checkpoint lacks something.
    """
    settings, method = job.settings, job.settings.method
    _check_numbers(job)
    host.check_sampler(job.sampler)
    check_arch(method, host.arch())
    host.check(method)
    settings.check_pictures()
    for layer in method.inputs:
        as_rgba(settings.picture(layer), field=f"{layer.value}_image")
    if job.init is not None:
        as_rgba(job.init, field="init")


def _check_numbers(job: Job) -> None:
    for side in (job.width, job.height):
        if side < MIN_SIDE or side % LATENT_CELL:
            raise ImageSizeError(
                f"Expected width and height in multiples of {LATENT_CELL}, from {MIN_SIDE} up, "
                f"got {job.width}×{job.height}.",
                "Choose another width or height.",
            )
    if job.sets < 1:
        raise BatchSizeError(f"Expected at least one set, got {job.sets}.", "Ask for 1 or more.")
    last = job.seed + job.sets * job.settings.method.frames
    _check("a seed from 0", job.seed, job.seed >= 0 and last <= _MAX_SEED)
    _check("at least one step", job.steps, job.steps >= 1)
    _check("a finite CFG scale", job.cfg, math.isfinite(job.cfg))
    _check("a denoising strength from 0 to 1", job.denoise, 0 <= job.denoise <= 1)


def _check(expected: str, value: float, holds: bool) -> None:
    if not holds:
        raise SettingsError(f"Expected {expected}, got {value}.", "Bring it into that range.")


def _sample(
    job: Job, session: Session, host: DiffusersHost, on_progress: OnProgress | None
) -> list[Tensor]:
    """Returns each set's latents `f 4 h w`; the sets run one by one, so that memory is one's."""
    init = _init_latents(job, session, host)
    attached: AbstractContextManager[object] = nullcontext()
    if job.settings.acts:
        attached = host.attached(inject(job.settings, session, host, job.width, job.height))
    progress = _Progress(on_progress, SAMPLING, 0)
    with attached:
        return [
            host.sample(_sampling(job, index, init, progress.of_set(index, job.sets)))
            for index in range(job.sets)
        ]


def _sampling(
    job: Job, index: int, init: Tensor | None, on_step: Callable[[int, int], bool]
) -> Sampling:
    from ..hosts.diffusers import Sampling

    settings, frames = job.settings, job.settings.method.frames
    return Sampling(
        prompts=layer_prompts(settings, [job.prompt] * frames, negative=False),
        negative_prompts=layer_prompts(settings, [job.negative_prompt] * frames, negative=True),
        seeds=job.seeds(index),
        width=job.width,
        height=job.height,
        steps=job.steps,
        cfg=job.cfg,
        sampler=job.sampler,
        init=init,
        denoise=job.denoise,
        on_step=on_step,
    )


def _init_latents(job: Job, session: Session, host: DiffusersHost) -> Tensor | None:
    """Returns what every set begins with, `f 4 h w`, sampler's scale, or None for noise.

    The foreground's frame begins with the transparent picture's latent, the others with what
    `first_picture` says, flattened on grey.
    """
    if job.init is None:
        return None
    method = job.settings.method
    rgba = fit(as_rgba(job.init), job.width, job.height, job.settings.resize_mode)

    def latent(layer: Layer) -> Tensor:
        if layer is Layer.FG:
            return encode(session.encoder(method.arch), host, rgba)
        flat = flatten(first_picture(job.settings, layer, rgba))
        return host.encode(picture_tensor(flat))

    return torch.cat([latent(layer) for layer in method.outputs])


def _infotext(job: Job, host: DiffusersHost, seed: int) -> str:
    from .generation_parameters import webui_infotext

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

    def of_set(self, index: int, sets: int) -> Callable[[int, int], bool]:
        """Returns what one set's sampling reports to."""
        return lambda done, total: self._report(index * total + done, sets * total)

    def of_part(self, index: int) -> Callable[[int, int], bool]:
        """Returns what one picture's decoding reports to."""
        return lambda done, total: self._report(index * total + done, self._total)

    def check(self) -> None:
        """Ends a run that was stopped while it decoded.

        Raises:
            SamplingStopped: It was.
        """
        if self._stopped:
            from ..hosts.diffusers import SamplingStopped

            raise SamplingStopped("Stopped before the last picture.")
