"""One job's state; it lives on the host's processing object and ends with it."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from types import FrameType
from typing import TYPE_CHECKING, Any

from PIL import Image
from torch import Tensor

from ..host import Attachment, Host
from ..masks import Mask
from ..methods import Layer
from ..pipeline import whole_sets
from ..settings import LayerSettings
from .options import Choices, choices
from .state import State, find, put, take

if TYPE_CHECKING:
    from .init_pictures import InitPictures

ATTRIBUTE = "layerdiffuse_job"
_LISTS = ("prompt", "negative_prompt", "seed", "subseed")


@dataclass(eq=False)
class Job(State):
    """What one job keeps between hooks.

    Attributes:
        settings: The user's choices.
        asked: What stood on the processing object before sets were laid out, by attribute.
        host: The loaded checkpoint, once it is loaded.
        attachment: The injection of the current batch.
        latents: The current batch's latents `b 4 h w`, sampler's scale.
        pixels: The current batch's pictures as the VAE decoded them, `b 3 H W` in [0, 1].
        results: The pictures made so far with the layer that each is.
        notes: What the user should know of this job.
        options: The host's options to put back afterwards.
        choices: What the settings page says, once the host has applied the job's own overrides.
        layers: The current set's layers so far.
        init: The init pictures, in img2img.
        kept: How much of the init picture the host would lay over the current row's picture,
            `h w` in [0, 1]; None for nothing.
    """

    settings: LayerSettings
    asked: dict[str, Any]
    host: Host | None = None
    attachment: Attachment | None = None
    latents: Tensor | None = None
    pixels: Tensor | None = None
    results: list[tuple[Image.Image, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)
    choices: Choices = field(default_factory=choices)
    layers: dict[Layer, Image.Image] = field(default_factory=dict)
    init: InitPictures | None = None
    kept: Mask | None = None

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
    """Returns the job that runs on a processing object, or None; a copy of the object has none."""
    job: Job | None = find(p, ATTRIBUTE)
    return job


def begin(p: Any, settings: LayerSettings, pictures: int | None = None) -> Job:
    """Puts a job on a processing object and lays out its batch as whole sets.

    Args:
        p: The processing object. Its batch size, and lists of prompts and seeds, count sets.
        settings: The user's choices.
        pictures: The smallest number of pictures, where that and not sets is asked for.
    """
    method = settings.method
    asked = {name: getattr(p, name) for name in ("batch_size", *_LISTS)}
    if pictures is None:
        p.batch_size *= method.frames
        for name in _LISTS:
            setattr(p, name, _each_frame(name, asked[name], method.frames))
    else:
        p.batch_size = whole_sets(method, pictures) * method.frames
    job = Job(settings, asked)
    put(p, ATTRIBUTE, job)
    return job


def _each_frame(name: str, value: Any, frames: int) -> Any:
    """Returns a list with each set's item once for each frame; seeds count on, as in a batch."""
    if not isinstance(value, list):
        return value
    if name == "seed":
        return [seed + frame for seed in value for frame in range(frames)]
    return [item for item in value for _ in range(frames)]


def end(p: Any) -> None:
    """Takes the job off and gives back what was asked for; loops run the same object again."""
    take(p, ATTRIBUTE)


def is_nested() -> bool:
    """Whether the caller runs inside another job, as detailers and upscalers start them."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_name != "process_images_inner":
        frame = frame.f_back
    return frame is not None
