"""Hires fix: what is refused before sampling, and the second pass's true latent."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch.nn.functional as F
from modules import images, sd_models
from PIL import Image
from torch import Tensor

from ...codec.checks import VAE_SCALE_FACTOR
from ...codec.transparent import TransparentEncoder
from ...errors import ArchMismatchError, MissingCapabilityError, WeightsError
from ...host import Host
from ...imaging.colours import fill_hidden
from ...imaging.images import FloatImage, flatten, from_u8, matte, to_u8
from ...methods import LayerMethod
from ...pipeline import encode
from ...weights.checkpoints import read_shapes, text_width
from .init_images import whole_cells
from .job import Job
from .progress import telling

_FAMILIES = {768: "SD1.5", 1024: "SD2", 1280: "SDXL refiner", 2048: "SDXL"}  # by text channels


def check_hires(p: Any, method: LayerMethod) -> None:
    """Checks what can be known of the second pass before the first.

    Raises:
        ArchMismatchError: The second pass has a checkpoint of another family.
        MissingCapabilityError: One image is to be upscaled, but the method makes sets.
    """
    if not getattr(p, "enable_hr", False):
        return
    if from_button(p) and method.frames > 1:
        raise MissingCapabilityError(
            "The upscale button enlarges one image, but this method makes sets of "
            f"{method.frames}.",
            "Turn on Hires. fix and generate the set again, or choose a method that makes this "
            "layer alone.",
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
    """Whether the button below the gallery asked for one of its images to be upscaled."""
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
        return _FAMILIES.get(text_width(read_shapes(path), prefix=""))
    except WeightsError:
        return None  # The host tells of a broken file when it loads it.


def take_image(p: Any, job: Job) -> None:
    """Keeps the image to be upscaled, and puts it on grey for the host, which knows RGB only."""
    image = getattr(p, "firstpass_image", None)
    if image is None or image.mode == "RGB":
        return
    rgba = from_u8(np.asarray(image.convert("RGBA")))
    job.change(p, "firstpass_image", Image.fromarray(to_u8(flatten(rgba))))
    if job.settings.method.decodes:
        job.first_image = rgba


def start_transparent(p: Any, job: Job, host: Host, encoder: TransparentEncoder, x: Tensor) -> None:
    """Has the second pass start from the kept image's latent with its transparency.

    Args:
        p: The host's processing object.
        job: The job, with the image.
        host: Where the encoder runs.
        encoder: The family's encoder.
        x: The latent that the host has made of the image without transparency, `b 4 h w`; it is
            overwritten.
    """
    rgba, job.first_image = job.first_image, None  # The host may call twice for a pass.
    assert rgba is not None
    size = p.hr_upscale_to_x, p.hr_upscale_to_y
    mode = p.latent_scale_mode
    if mode is None:
        rgba = _upscaled(rgba, *size, p.hr_upscaler)
    with telling("encoding the image"):
        latent = encode(
            encoder,
            host,
            whole_cells(rgba),
            job.choices.offset_strength,
            on_retry=partial(job.note, p),
        )
    if mode is not None:
        cells = [side // VAE_SCALE_FACTOR for side in reversed(size)]
        latent = F.interpolate(latent, size=cells, mode=mode["mode"], antialias=mode["antialias"])
    top, left = (max(0, (latent.shape[axis] - x.shape[axis]) // 2) for axis in (2, 3))
    x.copy_(latent[:, :, top : top + x.shape[2], left : left + x.shape[3]])


def _upscaled(rgba: FloatImage, width: int, height: int, upscaler: str) -> FloatImage:
    """Returns an image at another size, colour and alpha upscaled apart as the host does."""

    def upscaled(rgb: FloatImage) -> FloatImage:
        made = images.resize_image(0, Image.fromarray(to_u8(rgb)), width, height, upscaler)
        return from_u8(np.asarray(made))

    alpha = upscaled(matte(rgba))[..., :1]
    return np.concatenate([upscaled(fill_hidden(rgba)[..., :3]), alpha], axis=2)


def keep_latent(p: Any, job: Job) -> None:
    """Makes the second pass's sampler leave its latent in the job; the host gives only pixels.

    The host makes a sampler for this pass alone, so nothing has to be put back.
    """
    inner = p.sampler.sample_img2img

    def sample_img2img(*args: Any, **kwargs: Any) -> Any:
        job.batch.second_pass = inner(*args, **kwargs)
        return job.batch.second_pass

    p.sampler.sample_img2img = sample_img2img
