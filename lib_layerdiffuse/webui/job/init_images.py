"""img2img: each layer begins with the init image, the foreground with its transparency.

The host flattens every init image. So its images are kept before that, and the foreground's
rows of its latent are replaced before sampling.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from modules import images, masking, shared
from modules.processing import create_random_tensors
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from ...codec.checks import VAE_SCALE_FACTOR
from ...errors import BatchSizeError, MissingLayerError, SettingsError
from ...host import Host
from ...imaging.images import (
    FloatImage,
    ResizeMode,
    composite,
    fit,
    from_u8,
    matte,
    pad_colours,
    to_u8,
)
from ...imaging.masks import MaskSource, alpha_mask
from ...methods import Layer
from ...outputs import given_layer
from ...pipeline import Session, encode, first_image
from ...settings.layer_settings import LayerSettings
from .alpha import on_grey
from .given_images import read_given
from .init_checks import LATENT_UPSCALE, check_init_images, is_cut
from .job import InitImages, Job
from .progress import telling
from .state import CHANGE_MAP, find, forget_mask_afterwards

_MODES = (ResizeMode.STRETCH, ResizeMode.CROP, ResizeMode.FILL)  # As the host numbers them.
_FILL, _NOISE, _NOTHING = 0, 2, 3  # What the host puts under a mask; 1 is the image itself.


def check(p: Any, job: Job) -> None:
    """Gives the host its mask, and refuses early what of the init images cannot work.

    Args:
        p: The host's processing object; nothing is done in txt2img.
        job: The job on it.

    Raises:
        MissingLayerError: There is no init image.
        SettingsError: One cannot be read, or has not the part that is to be redrawn.
        ImageSizeError: One is too small, or the mask that a part is cut out by has another size.
        MissingCapabilityError: A chain is to go on with a part.
        BatchSizeError: There are more images than sets, or ones that count rows are not whole
            sets.
    """
    if getattr(p, "init_images", None) is None:
        return
    settings, inits = job.settings, _read_all(p)
    outputs = settings.method.outputs
    _rows(len(inits), outputs, p.batch_size * len(outputs), by_row=job.by_row)
    mapped = find(p, CHANGE_MAP) is not None  # A change map is a mask, too.
    if settings.mask_source is not MaskSource.TAB and not mapped:
        job.change(p, "image_mask", _own_mask(settings, inits))
        job.change(p, "inpainting_mask_invert", 0)
        forget_mask_afterwards(p, job)
    check_init_images(p, settings, inits)


def lay_out(p: Any, job: Job) -> None:
    """Gives each row of the batch its init image; nothing in txt2img.

    Args:
        p: The host's processing object, its batch laid out as whole sets.
        job: The job on it.

    Raises:
        MissingLayerError: There is no init image.
        SettingsError: One cannot be read.
        ImageSizeError: One is too small, or the mask that a part is cut out by has another size.
        BatchSizeError: There are more images than sets, or ones that count rows are not whole
            sets.
    """
    given: Sequence[Any] | None = getattr(p, "init_images", None)
    if given is None:
        return
    settings, inits = job.settings, _read_all(p)
    rows = _rows(len(given), settings.method.outputs, p.batch_size, by_row=job.by_row)
    check_init_images(p, settings, inits)
    shown = [_shown(p, settings, layer, given[i], inits[i]) for i, layer in rows]
    job.change(p, "init_images", shown)
    job.init = InitImages([inits[i] if layer is Layer.FG else None for i, layer in rows])


def _read_all(p: Any) -> list[FloatImage]:
    read = {id(image): _read(image) for image in p.init_images}
    return [read[id(image)] for image in p.init_images]


def _read(image: Any) -> FloatImage:
    rgba = read_given(image)
    if rgba is None:
        raise MissingLayerError("There is no init image.", "Put one into the tab.")
    return rgba


def _rows(
    given: int, outputs: Sequence[Layer], batch_size: int, *, by_row: bool
) -> list[tuple[int, Layer]]:
    """Returns for each row of the batch the init image that it begins with, and its layer."""
    frames = len(outputs)
    if by_row and given > 1:
        if given % frames:
            raise BatchSizeError(
                f"{given} init images cannot be shared out among sets of {frames} layers.",
                "Give one for each layer, or a single one.",
            )
        return [(row, outputs[row % frames]) for row in range(given)]
    if given * frames > batch_size:
        raise BatchSizeError(
            f"There are {given} init images for {batch_size // frames} sets.",
            "Raise the batch size: each init image begins a set.",
        )
    sets = range(given) if given > 1 else [0] * (batch_size // frames)
    return [(index, layer) for index in sets for layer in outputs]


def _shown(
    p: Any, settings: LayerSettings, layer: Layer, image: Image.Image, init: FloatImage
) -> Image.Image:
    """Returns the init image that the host gets for one row: the user's own, or as it was read."""
    if layer is Layer.BLENDED:
        fitted = not is_cut(p) and p.resize_mode != LATENT_UPSCALE
        own = resized(init, p.width, p.height, p.resize_mode) if fitted else init
        first = first_image(settings, layer, own)
        if first is not own:
            return Image.fromarray(to_u8(first[..., :3]))
    read = to_u8(init)
    read = read[..., :3] if image.mode == "RGB" and (read[..., 3] == 255).all() else read
    as_is = image.mode in ("RGB", "RGBA") and np.array_equal(np.asarray(image), read)
    return on_grey(image if as_is else Image.fromarray(read))


def _own_mask(settings: LayerSettings, inits: Sequence[FloatImage]) -> Image.Image:
    """Returns the mask of the init images' own alpha; the host has one for all of them."""
    masks = [alpha_mask(init, settings.mask_source) for init in inits]
    if not all(np.array_equal(masks[0], mask) for mask in masks):
        raise SettingsError(
            "The init images differ in transparency, but the WebUI has one mask for all.",
            "Run them one by one, or in the Batch tab.",
            field="mask_source",
        )
    return Image.fromarray(to_u8(masks[0]), mode="L")


def cut_settings(p: Any, job: Job) -> LayerSettings:
    """Returns the settings with the given layers cut out and resized as the init images are."""
    if job.init is None or job.init.region is None:
        return job.settings
    width, height = p.image_mask.size
    left, top, right, bottom = job.init.region
    cut: dict[str, Any] = {}
    for layer in job.settings.method.inputs:
        whole = given_layer(job.settings, layer, width, height)
        assert whole is not None, "checked before"
        part = whole[top:bottom, left:right]
        part = fit(part, p.width, p.height, ResizeMode.FILL)
        cut[f"{layer.value}_image"] = whole_cells(part)
    return replace(job.settings, **cut)


def resized(rgba: FloatImage, width: int, height: int, mode: int) -> FloatImage:
    """Returns straight RGBA as the host resizes an init image, by its number of the mode."""
    fitted = fit(rgba, width, height, _MODES[mode])
    upscaler = shared.opts.upscaler_for_img2img
    grows = width > rgba.shape[1] or height > rgba.shape[0]
    if upscaler in (None, "None") or not grows:
        return fitted
    padded = Image.fromarray(to_u8(pad_colours(rgba)[..., :3]))
    colour = from_u8(np.asarray(images.resize_image(mode, padded, width, height)))
    return np.concatenate([colour, fitted[..., 3:]], axis=2)


def resized_whole(p: Any, rgba: FloatImage) -> FloatImage:
    """Returns a whole init image at the job's size, as the host resizes it."""
    mode = 0 if p.resize_mode == LATENT_UPSCALE else p.resize_mode
    return resized(rgba, p.width, p.height, mode)


def encode_foregrounds(p: Any, job: Job, host: Host, session: Session) -> None:
    """Replaces the foregrounds' rows of the host's latent, once for all batches of a job."""
    init = job.init
    if init is None or init.encoded or not job.settings.method.decodes:
        return
    made: dict[int, Tensor] = {}
    hosts = p.init_latent.float()  # TAESD's may have half the digits.
    latents = list(hosts)
    for row in range(len(latents)):
        rgba = init.foreground(row)
        if rgba is None:
            continue
        if id(rgba) not in made:
            made[id(rgba)] = _latent(p, job, host, session, rgba).to(hosts)
        latents[row] = made[id(rgba)]
    rows = [row for row in range(len(latents)) if init.foreground(row) is not None]
    p.init_latent = _filled(p, torch.stack(latents), hosts, rows)
    init.encoded = True


def _latent(p: Any, job: Job, host: Host, session: Session, rgba: FloatImage) -> Tensor:
    """Returns the latent `4 h w` at the job's size, sampler's scale."""
    assert job.init is not None
    encoder = session.encoder(job.settings.method.arch)
    begun = _begun(p, job.init, rgba)
    with telling("encoding the init image"):
        latent = encode(
            encoder, host, begun, job.choices.offset_strength, on_retry=partial(job.note, p)
        )
    size = (p.height // VAE_SCALE_FACTOR, p.width // VAE_SCALE_FACTOR)
    if tuple(latent.shape[2:]) != size:
        latent = F.interpolate(latent, size=size, mode="bilinear")
    return latent[0]


def _begun(p: Any, init: InitImages, rgba: FloatImage) -> FloatImage:
    """Returns the image that is encoded: cut out, resized and filled as the host does."""
    if init.region is not None:
        left, top, right, bottom = init.region
        rgba = resized(
            rgba[top:bottom, left:right], p.width, p.height, _MODES.index(ResizeMode.FILL)
        )
    elif p.resize_mode != LATENT_UPSCALE:
        rgba = resized(rgba, p.width, p.height, p.resize_mode)
    if init.mask is not None and p.inpainting_fill == _FILL:
        rgba = _with_fill(rgba, init.mask)
    return whole_cells(rgba)


def whole_cells(image: FloatImage) -> FloatImage:
    """Returns what of an image or mask has latents; the host's VAE leaves out odd ends."""
    height, width = (side - side % VAE_SCALE_FACTOR for side in image.shape[:2])
    return image[:height, :width]


def _with_fill(rgba: FloatImage, mask: Image.Image) -> FloatImage:
    """Returns straight RGBA with the host's fill under a mask of its size."""
    around = rgba.copy()  # What is under the mask gives no colour to what is hidden beside it.
    around[..., 3] *= 1 - from_u8(np.asarray(mask.convert("L")))
    parts = (composite(rgba, pad_colours(around)[..., :3]), matte(rgba))
    filled = [masking.fill(Image.fromarray(to_u8(part)), mask) for part in parts]
    colour, alpha = (from_u8(np.asarray(part)) for part in filled)
    return np.concatenate([colour, alpha[..., :1]], axis=2)


def _filled(p: Any, latents: Tensor, hosts: Tensor, rows: Sequence[int]) -> Tensor:
    """Returns the latents with what the host puts under its mask, in the rows that are ours."""
    if p.mask is None or p.inpainting_fill not in (_NOISE, _NOTHING):
        return latents
    kept = latents * p.mask
    if p.inpainting_fill == _NOISE:
        noise = create_random_tensors(latents.shape[1:], p.all_seeds[: len(latents)])
        kept = kept + noise.to(kept) * p.nmask
    filled = hosts.clone()
    filled[rows] = kept[rows].to(hosts)
    return filled
