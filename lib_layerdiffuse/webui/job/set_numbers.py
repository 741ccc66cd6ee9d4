"""The host numbers the images that it saves; here all images of a set have one number."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from modules import shared

from .job import Job
from .state import find, put

_GOES_ON = "layerdiffuse_goes_on"
_NUMBER = re.compile(r"\d+(?=[-.])")


def with_number_of_set(p: Any, job: Job, path: Path) -> Path:
    """Returns an image's path with the number of its set's first one, if the host numbers images.

    Args:
        p: The host's processing object.
        job: The job.
        path: Where the image is about to be saved.
    """
    found = _NUMBER.match(path.name)
    if found is None or not getattr(shared.opts, "save_images_add_number", False):
        return path
    of_set = (path.parent, p.iteration, p.batch_index // job.settings.method.frames)
    number = job.numbers.setdefault(of_set, found[0])
    numbered = path.with_name(number + path.name[found.end() :])
    return path if numbered.exists() else numbered


def go_on(p: Any, image: Any) -> None:
    """Notes that a job makes one more layer of the set that an image belongs to."""
    saved = getattr(image, "already_saved_as", None)
    if saved is not None:
        put(p, _GOES_ON, Path(saved))


def take_number(p: Any, job: Job) -> None:
    """Gives a job the number of the set that it goes on with, if it does."""
    saved: Path | None = find(p, _GOES_ON)
    found = None if saved is None else _NUMBER.match(saved.name)
    if saved is not None and found is not None:
        job.numbers[saved.parent, 0, 0] = found[0]
