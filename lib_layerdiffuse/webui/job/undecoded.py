"""Foregrounds whose transparency cannot be found: they stay RGB, with their latents as files.

What was sampled is not thrown away for want of memory, of a file or of a disk: `layerdiffuse
decode` makes such a foreground transparent later, of its image and its latent.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ...codec.latent_files import write_latent
from ...errors import CodecError, LayerDiffuseError, WeightsError
from ...host import Host
from ...methods import Layer
from ...nets.full_memory import is_memory_error
from .job import Job, Undecoded, job_of
from .notes import tell
from .rows import Row

_log = logging.getLogger(__name__)


def is_no_fault(error: Exception, host: Host) -> bool:
    """Whether an error leaves the sampled image as good as it was: no memory, no file."""
    known = isinstance(error, (CodecError, WeightsError))
    return known or is_memory_error(error, host.memory_errors())


def keep_undecoded(
    p: Any, job: Job, row: Row, image: Image.Image, error: Exception
) -> Image.Image | None:
    """Notes a foreground that stays as it is, and why.

    Args:
        p: The host's processing object.
        job: The job.
        row: The foreground's.
        image: What the host and other extensions have made of it.
        error: Why its transparency cannot be found.

    Returns:
        The image as the VAE decoded it, which the decoder needs; None where `image` is that.
    """
    _log.error("LayerDiffuse: a foreground stays RGB: %s", error)
    same = np.array_equal(np.asarray(image.convert("RGB")), row.decoded_u8)
    decoded = None if same else Image.fromarray(row.decoded_u8)
    why = str(error) if isinstance(error, LayerDiffuseError) else "The memory is full."
    seed = p.seeds[p.batch_index]
    job.undecoded.append(Undecoded(image, decoded, row.vae_latent.cpu(), seed, why))
    return decoded


@contextmanager
def beside_the_layers(p: Any, job: Job) -> Iterator[None]:
    """Makes what is shown beside a set's layers; where memory or disk is full, a note says so."""
    try:
        yield
    except Exception as error:
        if not isinstance(error, OSError) and not is_memory_error(error):
            raise
        _log.exception("LayerDiffuse: an image beside the layers is missing", exc_info=error)
        why = f"{error}" if isinstance(error, OSError) else "the memory is full"
        job.note(p, f"an image that is given beside the layers is missing: {why}.")


def save_latent(params: Any) -> None:
    """Writes a foreground's latent beside its file, which the host has just written."""
    job = job_of(params.p)
    if job is None:
        return
    for one in job.undecoded:
        if one.image is params.image:
            saved = getattr(one.image, "already_saved_as", params.filename)
            _write(job, one, Path(saved).with_suffix(".safetensors"))


def add_latents(p: Any, job: Job, processed: Any) -> list[str]:
    """Returns the latents' files of a job that is done; tells the user of them, and why.

    Args:
        p: The host's processing object.
        job: The job.
        processed: The host's result, whose comments stand below the images.
    """
    for one in job.undecoded:
        if one.path is None:  # The host saves no images in this job.
            name = f"layerdiffuse-{one.seed}-{Layer.FG.value}.safetensors"
            _write(job, one, Path(p.outpath_samples) / name)
    for why in dict.fromkeys(one.why for one in job.undecoded):
        paths = [one.path for one in job.undecoded if one.why == why and one.path is not None]
        text = f"a foreground stays RGB, without transparency. {why}"
        if paths:
            names = ", ".join(path.name for path in paths)
            text += (
                f" Its latent is kept in {names}: the command `layerdiffuse decode` makes the "
                "image transparent with it."
            )
        job.notes.append(text)
        tell(processed, text)
    return [str(one.path) for one in job.undecoded if one.path is not None]


def _write(job: Job, one: Undecoded, path: Path) -> None:
    try:
        one.path = write_latent(path, one.vae_latent, job.settings.method.arch)
    except LayerDiffuseError as error:
        one.why += f" Its latent is lost, too: {error}"
