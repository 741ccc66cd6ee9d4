"""The infotext that the WebUI writes into its images, for images made without it."""

from __future__ import annotations

from collections.abc import Sequence

from ..settings.infotext import infotext_line, to_infotext
from .generation import Generation

SCHEDULES = ("Karras", "Exponential", "SGM Uniform")
"""The schedules that a sampler's name may end in; newer WebUIs write them under a key of theirs."""

_AUTOMATICALLY_OTHERS = ("DPM++", "DPM2")
"""Beginnings of the names whose schedule newer WebUIs choose; without one it was the uniform."""


def webui_infotext(
    job: Generation,
    *,
    seed: int,
    model: str,
    model_hash: str | None = None,
    loras: Sequence[tuple[str, float]] = (),
) -> str:
    """Returns the infotext of one image; the WebUI's "paste" and "PNG info" read it.

    Args:
        job: What was asked for.
        seed: This image's own.
        model: The checkpoint's name without its suffix.
        model_hash: The first ten digits of its SHA-256, or None to leave it out.
        loras: Names and weights of the user's LoRAs, written as the WebUI's tags.
    """
    tags = [f"<lora:{name}:{weight:g}>" for name, weight in loras]
    sampler, schedule = split_sampler(job.sampler)
    values = {
        "Steps": job.steps,
        "Sampler": sampler,
        "Schedule type": schedule or _unnamed_schedule(sampler),
        "CFG scale": f"{job.cfg:g}",
        "Seed": seed,
        "Size": f"{job.width}x{job.height}",
        "Model hash": model_hash,
        "Model": model,
        "Denoising strength": f"{job.denoise:g}" if job.init is not None else None,
        "RNG": "CPU",  # The noise is drawn as the WebUI does with this setting.
        **to_infotext(job.settings),
    }
    prompt, negative = " ".join([job.prompt.strip(), *tags]).strip(), job.negative_prompt.strip()
    above = [prompt, negative and f"Negative prompt: {negative}"]
    return "\n".join([*(text for text in above if text), infotext_line(values)])


def split_sampler(name: str) -> tuple[str, str | None]:
    """Returns a WebUI sampler's name and its schedule, or None for the sampler's own."""
    for schedule in SCHEDULES:
        if name.endswith(f" {schedule}"):
            return name.removesuffix(f" {schedule}"), schedule
    return name, None


def _unnamed_schedule(sampler: str) -> str | None:
    return "Uniform" if sampler.startswith(_AUTOMATICALLY_OTHERS) else None
