"""One generation without a WebUI: what is asked for, its checks, and the layers that come of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..codec.checks import VAE_SCALE_FACTOR
from ..codec.views import Views, check_views
from ..errors import BatchSizeError, ImageSizeError, SettingsError
from ..imaging.images import AnyImage, ImageU8, as_rgba
from ..methods import Layer
from ..pipeline import check_arch
from ..settings.layer_settings import LayerSettings
from .defaults import check_seeds

if TYPE_CHECKING:
    from torch import Tensor

    from ..hosts.diffusers import DiffusersHost

MIN_SIDE = 64


@dataclass(frozen=True, eq=False)
class Generation:
    """What to make.

    Attributes:
        settings: The method, its strength and its images.
        prompt: The main prompt, in the WebUI's syntax: emphasis, BREAK, AND, `[from:to:when]`.
        width: Pixels, a multiple of 8; likewise `height`.
        sets: How many sets of layers.
        seed: Of the first layer of the first set; each further layer has the next one.
        steps: Steps of the whole schedule.
        cfg: Scale of the guidance.
        sampler: Its name in the WebUI.
        views: How many views the transparent decoder takes.
        compiled: Whether it is compiled, where PyTorch can do that.
        init: An image to begin with, `h w 3|4`, straight alpha, uint8 or float in [0, 1].
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
    views: Views = 8
    compiled: bool = False
    init: AnyImage | None = None
    denoise: float = 0.75

    def seeds(self, index: int) -> list[int]:
        """Returns the seeds of one set's layers."""
        frames = self.settings.method.frames
        return [self.seed + index * frames + frame for frame in range(frames)]


@dataclass(frozen=True, eq=False)
class LayerImage:
    """One layer of one set.

    Attributes:
        layer: Which.
        set_index: Of which set, from 0.
        seed: Its own.
        image: `H W 4` straight RGBA for the foreground, `H W 3` for the others.
        before_decode: For the foreground, what the VAE made of it, `H W 3`.
        infotext: What the WebUI would write into the file.
        latent: For a foreground whose transparency could not be found, and whose image is RGB,
            its latent `4 h w`, VAE's scale; None for all others.
        note: What the user should know of it, in sentences; empty for nothing.
        interrupted: Whether the user ended the job while it was made.
    """

    layer: Layer
    set_index: int
    seed: int
    image: ImageU8
    before_decode: ImageU8 | None
    infotext: str
    latent: Tensor | None = None
    note: str = ""
    interrupted: bool = False


def check_job(job: Generation) -> None:
    """Checks what can be known before a checkpoint is loaded.

    Raises:
        SettingsError: A value is out of range, a name or a prompt cannot be understood, or an image
            is missing or of the wrong kind.
    """
    from ..hosts.diffusers.sampling import check_sampler

    settings = job.settings
    _check_numbers(job)
    check_sampler(job.sampler)
    check_views(job.views)
    check_prompts(job)
    settings.check_images()
    for layer in settings.method.inputs:
        as_rgba(settings.image(layer), field=f"{layer.value}_image")
    if job.init is not None:
        as_rgba(job.init, field="init")


def check_generation(job: Generation, host: DiffusersHost) -> None:
    """Checks what can be known without the weight files.

    Raises:
        SettingsError: As `check_job`, or the checkpoint is of another family.
        MissingCapabilityError: The checkpoint lacks something.
    """
    check_job(job)
    check_arch(job.settings.method, host.arch())
    host.check(job.settings.method)


def check_prompts(job: Generation) -> None:
    """Checks the main prompts and the layers' own ones.

    Raises:
        SettingsError: What one of them says cannot be done.
    """
    from ..hosts.diffusers.prompt_changes import check_prompt

    check_prompt(job.prompt)
    check_prompt(job.negative_prompt, composes=False)
    for layer in Layer:
        # AND would put a layer's own prompt beside the main one, not before it.
        own = {"prompt": job.settings.prompt, "negative_prompt": job.settings.negative_prompt}
        for kind, of_layer in own.items():
            check_prompt(of_layer(layer), name=f"{layer.value}_{kind}", composes=False)


def _check_numbers(job: Generation) -> None:
    for side in (job.width, job.height):
        if side < MIN_SIDE or side % VAE_SCALE_FACTOR:
            raise ImageSizeError(
                f"Width and height must be multiples of {VAE_SCALE_FACTOR}, from {MIN_SIDE} up, "
                f"but are {job.width}×{job.height}.",
                "Choose another width or height.",
            )
    if job.sets < 1:
        raise BatchSizeError(f"A job makes at least one set, not {job.sets}.", "Ask for 1 or more.")
    check_seeds(job.seed, job.sets * job.settings.method.frames)
    _check("Steps must be at least 1", job.steps, job.steps >= 1)
    _check("CFG scale must be a finite number", job.cfg, math.isfinite(job.cfg))
    _check("Denoising strength must be between 0 and 1", job.denoise, 0 <= job.denoise <= 1)


def _check(rule: str, value: float, holds: bool) -> None:
    if not holds:
        raise SettingsError(f"{rule}, but is {value}.", "Choose a value in that range.")
