"""Images beside the layers, such as previews and mattes, in the host's result.

Some hosts show and send such images apart from those that the rows of a batch became; others have
one list for both.
"""

from __future__ import annotations

from typing import Any

from PIL import Image

from .job import Job, asked_for_a_list
from .notes import tell


def gather(job: Job, processed: Any) -> bool:
    """Puts a job's extra images behind the host's own; returns whether the host keeps them apart.

    Args:
        job: The job that is done.
        processed: The host's result, which has `extra_images` from now on.
    """
    apart = hasattr(processed, "extra_images")
    own = processed.extra_images if apart else []
    processed.extra_images = [*own, *(image for image, _ in job.extras)]
    return apart


def join(job: Job, processed: Any) -> None:
    """Puts the extra images of a result behind its images, each with its infotext.

    A script that asked for a list of prompts counts the images, and gets no others.

    Args:
        job: The job that is done.
        processed: The host's result, which has no `extra_images` any more.
    """
    extras = vars(processed).pop("extra_images")
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
