"""Hires fix: what is refused before sampling, the second pass's prompts, and its true latent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from modules import sd_models
from PIL import Image
from safetensors import SafetensorError, safe_open

from ..errors import ArchMismatchError, MissingCapabilityError
from ..images import flatten, from_u8, to_u8
from ..methods import LayerMethod
from ..settings import LayerSettings
from .job import Job
from .prompts import row_prompts

_CROSS_ATTENTION = "attn2.to_k.weight"
_FAMILIES = {768: "SD1.5", 1024: "SD2", 1280: "SDXL refiner", 2048: "SDXL"}  # by text channels


def check_hires(p: Any, method: LayerMethod) -> None:
    """Checks what can be known of the second pass before the first.

    Raises:
        ArchMismatchError: The second pass has a checkpoint of another family.
        MissingCapabilityError: One picture is to be upscaled, but the method makes sets.
    """
    if not getattr(p, "enable_hr", False):
        return
    if from_button(p) and method.frames > 1:
        raise MissingCapabilityError(
            f"Expected a method that makes one picture, since one is to be upscaled, got one that "
            f"makes sets of {method.frames}.",
            "Turn on Hires. fix and generate the set again, or choose the method for this layer "
            "alone.",
            field="method",
        )
    info = _checkpoint(p)
    family = _family(Path(info.filename)) if info is not None else None
    if info is not None and family not in (None, method.arch.value):
        raise ArchMismatchError(
            f"This method needs an {method.arch.value} checkpoint, but {info.name_for_extra}, "
            f"chosen for hires fix, is an {family} one.",
            f"Choose an {method.arch.value} checkpoint for hires fix, or the same as before.",
            field="method",
        )


def from_button(p: Any) -> bool:
    """Whether the button below the gallery asked for one of its pictures to be upscaled."""
    return bool(getattr(p, "txt2img_upscale", False))


def _checkpoint(p: Any) -> Any:
    name = getattr(p, "hr_checkpoint_name", None)
    named = name and name != "Use same checkpoint"
    return sd_models.get_closet_checkpoint_match(name) if named else None


def _family(path: Path) -> str | None:
    """Returns a checkpoint's family by the shapes in its file; None where they do not tell."""
    if path.suffix.lower() != ".safetensors":
        return None
    try:
        with safe_open(path, "pt") as file:
            names = [name for name in list(file.keys()) if name.endswith(_CROSS_ATTENTION)]
            widths = {file.get_slice(name).get_shape()[-1] for name in names}
    except (SafetensorError, OSError):
        return None  # The host tells of a broken file when it loads it.
    return _FAMILIES.get(max(widths, default=0))


def flatten_picture(p: Any, job: Job) -> None:
    """Puts the picture to be upscaled on grey where it is transparent; the host knows RGB only."""
    image = getattr(p, "firstpass_image", None)
    if image is None or image.mode == "RGB":
        return
    job.asked["firstpass_image"] = image
    rgba = from_u8(np.asarray(image.convert("RGBA")))
    p.firstpass_image = Image.fromarray(to_u8(flatten(rgba)))


def give_prompts(p: Any, settings: LayerSettings) -> None:
    """Gives each row of the second pass its layer's prompt.

    The host sets these prompts after its hooks for the first pass's.
    """
    if getattr(p, "enable_hr", False):
        p.hr_prompts = row_prompts(settings, p.hr_prompts, negative=False)
        p.hr_negative_prompts = row_prompts(settings, p.hr_negative_prompts, negative=True)


def keep_latent(p: Any, job: Job) -> None:
    """Makes the second pass's sampler leave its latent in the job; the host gives only pixels.

    The host makes a sampler for this pass alone, so nothing has to be put back.
    """
    inner = p.sampler.sample_img2img

    def sample_img2img(*args: Any, **kwargs: Any) -> Any:
        job.second_pass = inner(*args, **kwargs)
        return job.second_pass

    p.sampler.sample_img2img = sample_img2img
