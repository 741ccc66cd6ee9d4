"""The denoising loop: diffusers' pipelines and schedulers under the WebUI's names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any

import diffusers
import torch
from torch import Tensor

from ...callbacks import OnShare
from ...errors import HostError, LayerDiffuseError, SettingsError, shortened
from ...methods import Arch
from .boundary import translated
from .conditioning import conditions


class SamplingStopped(LayerDiffuseError):
    """The user stopped the run; there is no result."""


@dataclass(frozen=True, eq=False)
class Sampling:
    """One batch to sample.

    Attributes:
        prompts: One for each row; rows are sets of frames, the frame counting fastest.
        negative_prompts: Likewise.
        seeds: Each row's own; noise is drawn on the CPU, so that it is the same on every device.
        width: Pixels, a multiple of 8; likewise `height`.
        steps: Steps of the whole schedule.
        cfg: Scale of the guidance; 1 or less leaves the negative prompts out.
        sampler: A key of `SAMPLERS`.
        init: Latents to begin with, `b 4 h w`, sampler's scale; None for noise alone.
        denoise: The part of the schedule that is run on `init`, 0..1, rounded as the WebUI does.
        on_step: Called after each UNet call with those done and those to do; False stops.
    """

    prompts: Sequence[str]
    negative_prompts: Sequence[str]
    seeds: Sequence[int]
    width: int
    height: int
    steps: int
    cfg: float
    sampler: str
    init: Tensor | None = None
    denoise: float = 1.0
    on_step: OnShare | None = None


@dataclass(frozen=True)
class Scheduler:
    """One of diffusers' schedulers with its options."""

    name: str
    options: Mapping[str, Any]

    def build(self, config: Mapping[str, Any]) -> Any:
        """Returns it for a checkpoint's training schedule."""
        return getattr(diffusers, self.name).from_config(config, **self.options)


def _samplers() -> Mapping[str, Scheduler]:
    multistep, singlestep = "DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler"
    ode, sde = {"algorithm_type": "dpmsolver++"}, {"algorithm_type": "sde-dpmsolver++"}
    with_karras: dict[str, tuple[str, dict[str, Any]]] = {
        "DPM++ 2M": (multistep, ode),
        "DPM++ 2M SDE": (multistep, sde),
        "DPM++ 3M SDE": (multistep, sde | {"solver_order": 3}),
        "DPM++ SDE": (singlestep, sde | {"lower_order_final": True}),
        "Euler": ("EulerDiscreteScheduler", {}),
        "Heun": ("HeunDiscreteScheduler", {}),
        "DPM2": ("KDPM2DiscreteScheduler", {}),
        "DPM2 a": ("KDPM2AncestralDiscreteScheduler", {}),
        # The WebUI's own settings of it; bh1 has no step to a sigma of 0.
        "UniPC": (
            "UniPCMultistepScheduler",
            {"solver_order": 3, "solver_type": "bh1", "final_sigmas_type": "sigma_min"},
        ),
    }
    leading = {"timestep_spacing": "leading", "steps_offset": 1, "set_alpha_to_one": False}
    rows = {"Euler a": Scheduler("EulerAncestralDiscreteScheduler", {**_LINSPACE})}
    for name, (scheduler, options) in with_karras.items():
        plain = options | _LINSPACE | {"use_karras_sigmas": False}
        rows[name] = Scheduler(scheduler, plain)
        rows[f"{name} Karras"] = Scheduler(scheduler, plain | {"use_karras_sigmas": True})
    rows["DDIM"] = Scheduler("DDIMScheduler", leading | {"clip_sample": False})
    rows["PLMS"] = Scheduler("PNDMScheduler", leading | {"skip_prk_steps": True})
    rows["LCM"] = Scheduler("LCMScheduler", {"clip_sample": False})
    return MappingProxyType(rows)


_HINT = "Choose another sampler, a smaller size, offloading or another device."
_OF_PROMPTS = "Choose another checkpoint, offloading or another device."
_LINSPACE = {"timestep_spacing": "linspace"}  # As k-diffusion spaces them.

SAMPLERS: Mapping[str, Scheduler] = _samplers()
"""The samplers by the WebUI's names."""


def check_sampler(name: str) -> Scheduler:
    """Returns the sampler of that name, in letters of either case.

    Raises:
        SettingsError: There is none.
    """
    return SAMPLERS[sampler_name(name)]


def sampler_name(name: str) -> str:
    """Returns a sampler's name as the WebUI writes it, given in letters of either case.

    Raises:
        SettingsError: There is none.
    """
    folded = {known.casefold(): known for known in SAMPLERS}
    wanted = " ".join(name.split()).casefold()
    if wanted not in folded:
        near = [folded[one] for one in get_close_matches(wanted[:99], folded, n=3, cutoff=0.5)]
        near = near or list(SAMPLERS)
        raise SettingsError(
            f"There is no sampler called {shortened(name)}.",
            f"Use {'one of' if len(near) > 1 else 'for instance'}: {', '.join(near)}.",
        )
    return folded[wanted]


@torch.no_grad()
def sample(pipeline: Any, arch: Arch, sampling: Sampling) -> Tensor:
    """Returns the denoised latents `b 4 h w`, sampler's scale, float32, on the CPU.

    Args:
        pipeline: The loaded checkpoint; its UNet is used as it is.
        arch: The checkpoint's family.
        sampling: What to make.

    Raises:
        SettingsError: The sampler's name or a prompt's syntax is not known.
        HostError: The libraries or the device could not do it.
        SamplingStopped: `on_step` returned False.
    """
    sampler = check_sampler(sampling.sampler)
    with translated(HostError, "The checkpoint does not go with this sampler", _HINT):
        scheduler = sampler.build(pipeline.scheduler.config)
    with translated(HostError, "The text encoder could not read the prompts", _OF_PROMPTS):
        wanted = conditions(
            pipeline, arch, sampling.prompts, sampling.negative_prompts, sampling.steps
        )
    run = _pipeline(pipeline, arch, scheduler, from_init=sampling.init is not None)
    on_step_end, stopped, raised = _reporting(sampling.on_step)
    generators = [torch.Generator("cpu").manual_seed(seed) for seed in sampling.seeds]
    first = wanted.first
    with (
        wanted.on(pipeline.unet, _counting_steps(run, sampling)),
        translated(HostError, "Sampling failed", _HINT, but=raised),
    ):
        found = run(
            **first,
            **_start(sampling, generators, first["prompt_embeds"].dtype),
            guidance_scale=sampling.cfg,
            num_inference_steps=sampling.steps,
            generator=generators,
            output_type="latent",
            callback_on_step_end=on_step_end,
        ).images
    if stopped:
        raise SamplingStopped("Stopped before the last step.")
    latents: Tensor = found.float().cpu()
    return latents


def _start(
    sampling: Sampling, generators: list[torch.Generator], dtype: torch.dtype
) -> dict[str, Any]:
    """Returns where the pipeline begins: noise, drawn in float32 as the WebUI does, or `init`."""
    if sampling.init is not None:
        return {"image": sampling.init, "strength": strength(sampling.steps, sampling.denoise)}
    width, height = sampling.width, sampling.height
    shape = (1, 4, height // 8, width // 8)
    noise = torch.cat([torch.randn(shape, generator=generator) for generator in generators])
    return {"latents": noise.to(dtype), "width": width, "height": height}


def _counting_steps(run: Any, sampling: Sampling) -> Callable[[int], int]:
    """Returns what tells the step, from 0, of a UNet call; some samplers call twice in a step."""
    steps = sampling.steps
    if sampling.init is not None:
        steps = min(int(steps * strength(steps, sampling.denoise)), steps)
    return lambda call: min(call * steps // run.num_timesteps, steps - 1)


def strength(steps: int, denoise: float) -> float:
    """Returns the strength at which diffusers runs as many steps as the WebUI for `denoise`.

    The WebUI runs one step more than steps · denoise rounded down, at most all; diffusers runs
    steps · strength rounded down.
    """
    run = int(min(denoise, 0.999) * steps) + 1
    return min((run + 0.5) / steps, 1.0)


def _pipeline(pipeline: Any, arch: Arch, scheduler: Any, *, from_init: bool) -> Any:
    """Returns a pipeline around the loaded parts, which stay where they are."""
    kind = "StableDiffusionXL" if arch is Arch.SDXL else "StableDiffusion"
    made = getattr(diffusers, f"{kind}{'Img2Img' if from_init else ''}Pipeline")
    more = {"add_watermarker": False} if arch is Arch.SDXL else {"requires_safety_checker": False}
    run = made(**{**pipeline.components, "scheduler": scheduler}, **more)
    run.set_progress_bar_config(disable=True)
    return run


def _reporting(
    on_step: OnShare | None,
) -> tuple[Callable[..., Any], list[bool], list[BaseException]]:
    """Returns diffusers' callback, a list that is filled when the run was stopped, and one of what
    `on_step` raised.
    """
    stopped: list[bool] = []
    raised: list[BaseException] = []

    def on_step_end(run: Any, index: int, _timestep: Any, values: Any) -> Any:
        try:
            goes_on = on_step is None or on_step(index + 1, run.num_timesteps) is not False
        except Exception as error:
            raised.append(error)
            raise
        if not goes_on:
            stopped.append(True)
            run._interrupt = True
        return values

    return on_step_end, stopped, raised
