"""Images beside the layers, such as previews and mattes, in the host's result.

Some hosts show and send such images apart from those that the rows of a batch became; others have
one list for both, and one shows them apart and sends none.
"""

from __future__ import annotations

from inspect import unwrap
from typing import Any

from modules.api.api import Api
from PIL import Image

from .job import Job, asked_for_a_list
from .notes import tell


def gather(job: Job, processed: Any) -> bool:
    """Puts a job's extra images behind the host's own; returns whether the host has such a place.

    Args:
        job: The job that is done.
        processed: The host's result, which has `extra_images` from now on.
    """
    has_place = hasattr(processed, "extra_images")
    own = processed.extra_images if has_place else []
    processed.extra_images = [*own, *(image for image, _ in job.extras)]
    return has_place


def are_handed_over(p: Any) -> bool:
    """Whether the host gives a result's extra images to who has asked for the job.

    Its page does where there is a place for them; its API may not read it.
    """
    if not getattr(p, "is_api", False):
        return True
    code = getattr(unwrap(Api.text2imgapi), "__code__", None)
    return code is not None and "extra_images" in code.co_names


def join(job: Job, processed: Any, *, has_place: bool) -> None:
    """Puts the extra images of a result behind its images, each with its infotext.

    A script that asked for a list of prompts counts the images, and gets no others.

    Args:
        job: The job that is done.
        processed: The host's result, which has no `extra_images` any more.
        has_place: Whether they are the host's own, and stay as an empty list.
    """
    extras = vars(processed).pop("extra_images")
    if has_place:
        processed.extra_images = []
    if asked_for_a_list(job):
        processed.infotexts = processed.infotexts[: len(processed.images)]
        if extras:
            tell(processed, "this WebUI shows the grid alone; what belongs to it is in its files.")
        return
    processed.images = [*processed.images, *extras]
    untold = processed.images[len(processed.infotexts) :]
    texts = [_infotext(job, image) for image in untold]
    processed.infotexts = [*processed.infotexts, *texts]


def _infotext(job: Job, image: Image.Image) -> str:
    of_job = (text for extra, text in job.extras if extra is image)
    return next(of_job, str(image.info.get("parameters", "")))
