"""The host numbers the images that it saves; here all images of a set have one number."""

from __future__ import annotations

import re
from itertools import count
from pathlib import Path
from typing import Any

from modules import shared

from ...methods import Layer
from .job import Job
from .state import find, put

_GOES_ON = "layerdiffuse_goes_on"
_NUMBER = re.compile(r"\d+(?=[-.])")
_SUFFIX = re.compile(r"-\d+$")
_REPLACES = ("Replace", "Override")
"""How hosts say that an image takes the place of a file of its name."""


def with_number_of_set(p: Any, job: Job, path: Path, name: str) -> Path:
    """Returns an image's path with the number of its set's first one, if the host numbers images.

    Args:
        p: The host's processing object.
        job: The job.
        path: Where the image is about to be saved; its stem ends with `-` and its name.
        name: What the image is called, such as "fg".
    """
    of_set = (path.parent, p.iteration, p.batch_index // job.settings.method.frames)
    if getattr(shared.opts, "save_images_add_number", False):
        found = _NUMBER.match(path.name)
        if found is None:
            return path
        number = job.numbers.setdefault(of_set, found[0])
        numbered = path.with_name(number + path.name[found.end() :])
    elif getattr(shared.opts, "save_images_replace_action", _REPLACES[0]) not in _REPLACES:
        if of_set not in job.numbers:
            job.numbers[of_set] = _free_suffix(p, job, path, path.stem.removesuffix(f"-{name}"))
        numbered = path.with_name(path.stem + job.numbers[of_set] + path.suffix)
    else:
        return path
    return path if numbered.exists() else numbered


def _free_suffix(p: Any, job: Job, path: Path, stem: str) -> str:
    """Returns the first of "", "-1", "-2", … by which no layer of a set meets a file."""
    frames = job.settings.method.frames
    first = p.batch_index // frames * frames
    own, seeds = str(p.seeds[p.batch_index]), p.seeds[first : first + frames]
    names = [f"{stem.replace(own, str(seed))}-{layer.value}" for seed in seeds for layer in Layer]
    suffixes = ("" if n == 0 else f"-{n}" for n in count())
    return next(
        suffix
        for suffix in suffixes
        if not any(
            path.with_name(name + suffix + path.suffix).exists() for name in (path.stem, *names)
        )
    )


def go_on(p: Any, image: Any) -> None:
    """Notes that a job makes one more layer of the set that an image belongs to."""
    saved = getattr(image, "already_saved_as", None)
    if saved is not None:
        put(p, _GOES_ON, Path(saved))


def take_number(p: Any, job: Job) -> None:
    """Gives a job the number of the set that it goes on with, if it does."""
    saved: Path | None = find(p, _GOES_ON)
    if saved is None:
        return
    numbers = getattr(shared.opts, "save_images_add_number", False)
    found = _NUMBER.match(saved.name) if numbers else _SUFFIX.search(saved.stem)
    if found is not None or not numbers:
        job.numbers[saved.parent, 0, 0] = found[0] if found else ""
