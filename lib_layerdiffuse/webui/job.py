"""One job's state; it lives on the host's processing object and ends with it."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from PIL import Image
from torch import Tensor

from ..host import Attachment, Host
from ..methods import Layer
from ..settings import LayerSettings

_ATTRIBUTE = "layerdiffuse_job"


@dataclass(eq=False)
class Job:
    """What one job keeps between hooks.

    Attributes:
        settings: The user's choices.
        asked_batch_size: The host's batch size before sets were laid out.
        host: The loaded checkpoint, once it is loaded.
        attachment: The injection of the current batch.
        latents: The current batch's latents `b 4 h w`, sampler's scale.
        pixels: The current batch's pictures as the VAE decoded them, `b 3 H W` in [0, 1].
        results: The pictures made so far with the layer that each is.
        notes: What the user should know of this job.
    """

    settings: LayerSettings
    asked_batch_size: int
    host: Host | None = None
    attachment: Attachment | None = None
    latents: Tensor | None = None
    pixels: Tensor | None = None
    results: list[tuple[Image.Image, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def note(self, p: Any, text: str) -> None:
        """Tells the user something once, below the pictures and in the API's `info`."""
        if text not in self.notes:
            self.notes.append(text)
            p.comment(f"LayerDiffuse: {text}")

    def layer(self, batch_index: int) -> Layer:
        """Returns the layer that a row of the batch is."""
        outputs = self.settings.method.outputs
        return outputs[batch_index % len(outputs)]

    def suffix(self, image: Image.Image) -> str | None:
        """Returns what a file of this picture is called after, or None if it is not of the job."""
        return next((name for result, name in self.results if result is image), None)


def job_of(p: Any) -> Job | None:
    """Returns the job that runs on a processing object, or None."""
    return getattr(p, _ATTRIBUTE, None)


def set_job(p: Any, job: Job | None) -> None:
    """Puts a job on a processing object, or takes it off."""
    setattr(p, _ATTRIBUTE, job)


def is_nested() -> bool:
    """Whether the caller runs inside another job, as detailers and upscalers start them."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_name != "process_images_inner":
        frame = frame.f_back
    return frame is not None
