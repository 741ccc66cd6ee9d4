"""From the host's pictures to the layers that are shown and saved."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from modules import images, shared
from modules.processing import create_infotext
from PIL import Image

from ...codec.transparent import TransparentDecoder
from ...errors import HostError
from ...host import Host
from ...imaging.colours import follow_edit
from ...imaging.coverage import measure
from ...imaging.images import (
    Picture,
    as_rgba,
    checkerboard,
    composite,
    fit,
    flatten,
    from_u8,
    matte,
    to_u8,
)
from ...methods import Layer
from ...pipeline import decode
from ...settings.advice import advice
from ..entry.abort import abort
from ..page.options import wants
from . import progress
from .job import Job, job_of
from .out_of_memory import room_for


def transparent(
    p: Any, job: Job, host: Host, decoder: TransparentDecoder, row: int, image: Image.Image
) -> Image.Image:
    """Returns a row's picture as straight RGBA.

    Args:
        p: The host's processing object.
        job: The job, with the batch's latents.
        host: Where the decoder runs.
        decoder: The family's decoder.
        row: The row of the batch.
        image: Its RGB picture as the host and other extensions have left it.

    Raises:
        HostError: There is no latent for this picture, or no memory to decode it.
    """
    if job.vae_latents is None or len(job.vae_latents) <= row:
        raise HostError("Expected a latent for each picture, got fewer.", "Generate again.")
    assert job.pixels is not None
    latent, pixels = job.vae_latents[row], job.pixels[row].float().cpu()
    views, dtype = job.choices.views, job.choices.dtype

    def on_view(done: int, total: int) -> bool:
        progress.show(f"transparency, view {min(done + 1, total)} of {total}")
        if progress.stopped() and done < total:
            job.note(p, f"stopped after {done} of {total} views, so edges are rougher.")
        return not progress.stopped()

    first = f"transparency, view 1 of {views}"
    with room_for("transparent decoder"), progress.telling(first):
        rgba_u8 = decode(decoder, host, pixels, latent, views=views, dtype=dtype, on_view=on_view)
    if not progress.stopped():  # Half a picture is no fault of the checkpoint.
        told = advice(measure(rgba_u8).verdict, job.settings)
        if told:
            job.note(p, told)
    before_u8 = job.decoded(row)
    after_u8 = np.asarray(image.convert("RGB"))
    if not np.array_equal(before_u8, after_u8):
        rgba_u8 = to_u8(follow_edit(from_u8(rgba_u8), from_u8(before_u8), from_u8(after_u8)))
    return Image.fromarray(rgba_u8)


def add_extras(p: Any, job: Job, rgba: Image.Image, raw: Image.Image) -> None:
    """Shows, and saves if pictures are saved, what the user wants beside the foreground.

    Args:
        p: The host's processing object.
        job: The job.
        rgba: The foreground, straight alpha.
        raw: The same before its transparency was decoded.
    """
    picture = from_u8(np.asarray(rgba))
    height, width = picture.shape[:2]
    fg = Layer.FG.value
    if wants(job.settings, job.choices, "show_preview"):
        _add_extra(p, job, f"{fg}-preview", composite(picture, checkerboard(width, height)))
    if wants(job.settings, job.choices, "show_matte"):
        _add_extra(p, job, f"{fg}-matte", matte(picture))
    if wants(job.settings, job.choices, "show_raw"):
        _add_extra(p, job, f"{fg}-raw", from_u8(np.asarray(raw.convert("RGB"))))


def add_composite(p: Any, job: Job, layers: Mapping[Layer, Image.Image]) -> None:
    """Adds, where the user wants it, a set's foreground over its background, made or given."""
    if not wants(job.settings, job.choices, "show_composite"):
        return
    fg, bg = (_layer_picture(p, job, layers, layer) for layer in (Layer.FG, Layer.BG))
    if fg is not None and bg is not None:
        _add_extra(p, job, "composite", composite(fg, flatten(bg)))


def _layer_picture(
    p: Any, job: Job, layers: Mapping[Layer, Image.Image], layer: Layer
) -> Picture | None:
    """Returns a layer's straight RGBA at the job's size: made, or else given; None if neither."""
    if layer in layers:
        return from_u8(np.asarray(layers[layer].convert("RGBA")))
    given = job.settings.picture(layer)
    if given is None:
        return None
    width, height = next(iter(layers.values())).size
    return fit(as_rgba(given), width, height, job.settings.resize_mode)


def _add_extra(p: Any, job: Job, name: str, picture: Picture) -> None:
    extra, row = Image.fromarray(to_u8(picture)), p.batch_index
    info = create_infotext(
        p, p.prompts, p.seeds, p.subseeds, index=row, all_negative_prompts=p.negative_prompts
    )
    if shared.opts.enable_pnginfo:
        extra.info["parameters"] = info
    p.extra_result_images.append(extra)
    job.results.append((extra, name))
    if p.save_samples():
        form = shared.opts.samples_format
        images.save_image(
            extra, p.outpath_samples, "", p.seeds[row], p.prompts[row], form, info=info, p=p
        )


def name_layer(params: Any) -> None:
    """Puts the layer into the name of a file that is about to be saved; keeps alpha lossless."""
    job = job_of(params.p)
    if job is None or params.image is None:
        return
    try:
        _name(params, job)
    except Exception as error:  # The host would save it without its transparency.
        abort(params.p, error)


def _name(params: Any, job: Job) -> None:
    path = Path(params.filename)
    suffix = job.suffix(params.image)
    stem = f"{path.stem}-{suffix}" if suffix else path.stem
    extension = ".png" if params.image.mode == "RGBA" else path.suffix
    if suffix and extension != path.suffix:
        job.note(params.p, f"saved as PNG, since {path.suffix} would lose transparency.")
    params.filename = str(path.with_name(stem + extension))


def name_pictures(job: Job, processed: Any) -> list[str | None]:
    """Returns what each picture of a result is called, in the order in which the API sends them.

    A layer is called "fg", "bg" or "blended", an extra such as "fg-matte" after its file; None
    stands for a picture that is not of the job, such as a grid.
    """
    return [job.suffix(image) for image in [*processed.images, *processed.extra_images]]
