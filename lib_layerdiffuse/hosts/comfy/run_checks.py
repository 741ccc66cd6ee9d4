"""What a sampler is given that a method cannot work with, in the words of ComfyUI's page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from ...errors import BatchSizeError, HostError, ImageSizeError, MissingCapabilityError
from ...host import Injection

_SCALE = 8  # Pixels of an image for each of its latent.
_WINDOWS = "context_handler"


def check_run(injection: Injection, latent: Tensor, model_options: Any) -> None:
    """Checks what a sampler starts from, before it loads a model.

    Args:
        injection: The method.
        latent: Noise of the run, `b c h w`.
        model_options: Of the MODEL that samples.

    Raises:
        SettingsError: The latent has no whole sets, or another size than a given image.
        MissingCapabilityError: It is none of an image, or is sampled in windows of the batch.
    """
    if latent.ndim != 4 or latent.shape[1] != 4:
        raise MissingCapabilityError(
            "The sampler's latent is not one of an SD1.5 or SDXL image.",
            "Give the sampler the latent of an image, such as that of Empty Latent Image.",
        )
    frames = injection.method.frames
    if len(latent) % frames:
        raise BatchSizeError(
            f"The latent is a batch of {len(latent)}, which makes no whole sets of {frames} "
            "layers.",
            f"Give the sampler a latent whose batch_size is a multiple of {frames}.",
        )
    given = _given_size(injection)
    if given is not None and given != tuple(latent.shape[2:]):
        raise ImageSizeError(
            f"The given image is {_pixels(given)}, and the latent is for {_pixels(latent.shape)}.",
            "Make the image and the latent the same size, such as by Upscale Image.",
        )
    if (frames > 1 or given is not None) and model_options.get(_WINDOWS) is not None:
        raise MissingCapabilityError(
            "Context windows would take the layers of a set apart.",
            "Remove the context windows from the MODEL.",
        )


def check_call(injection: Injection, x: Tensor, options: Any) -> int:
    """Returns how many rows of a UNet call belong to one conditioning.

    Args:
        injection: The method.
        x: The call's input, `b 4 h w`.
        options: The transformer's, of the call.

    Raises:
        HostError: They are no whole sets, or the call is for a part of a given image, or does not
            say which rows belong together.
    """
    if not options.get("cond_or_uncond"):
        raise HostError(
            "A node calls the UNet in a way of its own, without saying which rows belong together.",
            "Use KSampler, or another sampler that calls it as ComfyUI does.",
        )
    frames, (rows, over) = injection.method.frames, divmod(len(x), len(options["cond_or_uncond"]))
    if over or rows % frames:
        raise HostError(
            f"The UNet was called for {rows} rows of a conditioning, which are no whole sets of "
            f"{frames} layers.",
            f"Give the sampler a latent whose batch_size is a multiple of {frames}, and bypass "
            "nodes that sample a part of the batch.",
        )
    given = _given_size(injection)
    if given is not None and given != tuple(x.shape[2:]):
        raise HostError(
            f"The UNet was called for {_pixels(x.shape)} where the given image is "
            f"{_pixels(given)}: parts of the image are sampled one by one.",
            "Bypass Conditioning (Set Area) and nodes that sample in tiles; conditioning masks "
            "work.",
        )
    return rows


def named(file: str) -> str:
    """Returns what a user calls the nodes that a file of code belongs to."""
    *folders, name = Path(file).parts or ("",)
    if "custom_nodes" in folders[:-1]:
        return f"the nodes of {folders[folders.index('custom_nodes') + 1]}"
    if "comfy_extras" in folders:
        return f"ComfyUI's {Path(name).stem.removeprefix('nodes_')} nodes"
    return f"the nodes of {Path(name).stem or 'another pack'}"


def _given_size(injection: Injection) -> tuple[int, int] | None:
    """Returns height and width in latent pixels of what is put beside the noise, if anything."""
    if injection.concat is not None:
        return injection.concat.shape[2], injection.concat.shape[3]
    if injection.control is not None:
        return injection.control.shape[2] // _SCALE, injection.control.shape[3] // _SCALE
    return None


def _pixels(shape: Any) -> str:
    height, width = shape[-2:]
    return f"{_SCALE * width}×{_SCALE * height}"
