"""From the host's images to the layers that are shown and saved."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from modules import images, shared
from modules.processing import create_infotext
from PIL import Image

from ...codec.transparent import TransparentDecoder
from ...codec.views import most_views
from ...files.whole_files import cut, longest_name
from ...host import Host
from ...imaging.coverage import measure
from ...imaging.images import ImageU8
from ...methods import Layer
from ...outputs import COMPOSITE, RAW, foreground_extras, true_composite
from ...pipeline import decode
from ...settings.advice import advice
from . import progress
from .abort import abort
from .choices import wanted
from .job import Job, job_of
from .rows import Row, with_edits, with_original
from .set_numbers import with_number_of_set
from .undecoded import beside_the_layers, is_no_fault, keep_undecoded

_NUMBER = 4
"""Letters to spare for a number after a layer's name."""


def foreground(
    p: Any,
    job: Job,
    host: Host,
    decoder: Callable[[], TransparentDecoder],
    row: Row,
    image: Image.Image,
) -> Image.Image:
    """Returns a foreground's finished image, straight RGBA, and adds what is wanted beside it.

    Where its transparency cannot be found, that is the host's image, and its latent is kept.

    Args:
        p: The host's processing object.
        job: The job.
        host: Where the decoder runs.
        decoder: Returns the family's decoder.
        row: The foreground's.
        image: What the host and other extensions have made of it.
    """
    try:
        rgba = transparent(p, job, host, decoder(), row)
    except Exception as error:
        if not is_no_fault(error, host):
            raise
        decoded = keep_undecoded(p, job, row, image, error)
        if decoded is not None:
            with beside_the_layers(p, job):
                _add_extra(p, job, f"{Layer.FG.value}-{RAW}", decoded)
        return image
    with beside_the_layers(p, job):
        add_extras(p, job, rgba, image)
    return rgba


def transparent(p: Any, job: Job, host: Host, decoder: TransparentDecoder, row: Row) -> Image.Image:
    """Returns a row's finished image as straight RGBA.

    Args:
        p: The host's processing object.
        job: The job.
        host: Where the decoder runs.
        decoder: The family's decoder.
        row: The row.

    Raises:
        CodecError: The decoder overflows, or there is no memory for it.
    """
    rgba_u8 = _decoded(p, job, host, decoder, row)
    if not progress.stopped():  # Half an image is no fault of the checkpoint.
        told = advice(measure(rgba_u8).verdict, job.settings)
        if told:
            job.note(p, told)
    return Image.fromarray(with_original(row, with_edits(row, rgba_u8)))


def _decoded(p: Any, job: Job, host: Host, decoder: TransparentDecoder, row: Row) -> ImageU8:
    views = job.choices.views

    def on_view(done: int, total: int) -> bool:
        progress.show(f"transparency, view {min(done + 1, total)} of {total}")
        if progress.stopped() and done < total:
            job.note(p, f"stopped after {done} of {total} views, so edges are rougher.")
        return not progress.stopped()

    first = f"transparency, view 1 of {most_views(views)}"
    changed: list[str] = []
    with progress.telling(first):
        rgba_u8 = decode(
            decoder,
            host,
            row.pixels,
            row.vae_latent,
            views=views,
            dtype=job.choices.dtype,
            compiled=job.choices.compiled,
            on_view=on_view,
            on_retry=changed.append,
        )
    for text in changed:
        job.note(p, text)
    return rgba_u8


def add_extras(p: Any, job: Job, rgba: Image.Image, raw: Image.Image) -> None:
    """Shows, and saves if images are saved, what the user wants beside the foreground.

    Args:
        p: The host's processing object.
        job: The job.
        rgba: The foreground, straight alpha.
        raw: The same before its transparency was decoded.
    """
    before_alpha = np.asarray(raw.convert("RGB"))
    extras = foreground_extras(np.asarray(rgba), before_alpha, wanted(job.settings, job.choices))
    for name, image in extras.items():
        _add_extra(p, job, f"{Layer.FG.value}-{name}", Image.fromarray(image))


def add_composite(p: Any, job: Job, layers: Mapping[Layer, Image.Image]) -> None:
    """Adds, where the user wants it, a set's foreground over its background, made or given."""
    if "show_composite" not in wanted(job.settings, job.choices):
        return
    if any(job.is_undecoded(image) for image in layers.values()):
        return
    with beside_the_layers(p, job):
        made = {layer: np.asarray(image.convert("RGBA")) for layer, image in layers.items()}
        composed = true_composite(made, job.settings)
        if composed is not None:
            _add_extra(p, job, COMPOSITE, Image.fromarray(composed))


def _add_extra(p: Any, job: Job, name: str, extra: Image.Image) -> None:
    row = p.batch_index
    info = create_infotext(
        p, p.prompts, p.seeds, p.subseeds, index=row, all_negative_prompts=p.negative_prompts
    )
    if shared.opts.enable_pnginfo:
        extra.info["parameters"] = info
    job.extras.append((extra, info))
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
    exact = params.image.mode == "RGBA" or job.is_undecoded(params.image)
    extension = ".png" if exact else path.suffix
    if suffix and extension != path.suffix:
        job.note(params.p, f"saved as PNG, since {path.suffix} would lose transparency.")
    if suffix:
        named = _ending_with(path, f"-{suffix}{extension}")
        params.filename = str(with_number_of_set(params.p, job, named, suffix))
    else:
        params.filename = str(path.with_name(path.stem + extension))


def _ending_with(path: Path, ending: str) -> Path:
    """Returns a path with another end, cut before that: the host cuts whole paths at their end."""
    room = longest_name(path.parent) - len(os.fsencode(path.parent / ending)) - _NUMBER
    return path.with_name((cut(path.stem, room) or path.stem) + ending)


def name_images(job: Job, processed: Any) -> list[str | None]:
    """Returns what each image of a result is called, in the order in which the API sends them.

    A layer is called "fg", "bg" or "blended", an extra such as "fg-matte" after its file; None
    stands for an image that is not of the job, such as a grid.
    """
    return [job.suffix(image) for image in [*processed.images, *processed.extra_images]]
