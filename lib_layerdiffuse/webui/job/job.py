"""One job's state; it lives on the host's processing object and ends with it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from modules import shared
from PIL import Image
from torch import Tensor

from ...host import Attachment, Injection
from ...imaging.images import Picture
from ...imaging.masks import Mask
from ...methods import Layer
from ...pipeline import whole_sets
from ...settings.layer_settings import LayerSettings
from ..page.options import Choices, choices
from .state import JOB, State, find, put, take

if TYPE_CHECKING:
    from ..flows.second_step import FirstStep
    from .init_pictures import InitPictures

LISTS = ("prompt", "negative_prompt", "hr_prompt", "hr_negative_prompt", "seed", "subseed")


@dataclass(eq=False)
class Job(State):
    """What one job keeps between hooks.

    Attributes:
        settings: The user's choices.
        asked: What stood on the processing object before sets were laid out, by attribute.
        injection: What the current pass injects, and which pass of which size that is.
        attachment: The injection of the current pass.
        first_picture: The transparent picture to be upscaled, until it is encoded.
        second_pass: The latents of hires fix's second pass `b 4 h w`, sampler's scale.
        vae_latents: The current batch's latents `b 4 h w`, VAE's scale.
        pixels: The current batch's pictures as the VAE decoded them, `b 3 H W` in [0, 1].
        rows: For each picture of the current batch the row that it came from; None for one that
            another extension has put in.
        results: The pictures made so far with the layer that each is.
        notes: What the user should know of this job.
        options: The host's options to put back, where the host is told not to.
        choices: What the settings page says, once the host has applied the job's own overrides.
        layers: The current set's layers so far.
        stopped: Whether the user stopped the current batch before its last step.
        first_steps: What a chain's first step made, set by set.
        init: The init pictures, in img2img.
        kept: How much of the init picture the host would lay over the current row's picture,
            `h w` in [0, 1]; None for nothing.
    """

    settings: LayerSettings
    asked: dict[str, Any]
    injection: tuple[Any, Injection] | None = None
    attachment: Attachment | None = None
    first_picture: Picture | None = None
    second_pass: Tensor | None = None
    vae_latents: Tensor | None = None
    pixels: Tensor | None = None
    rows: list[int | None] = field(default_factory=list)
    results: list[tuple[Image.Image, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)
    choices: Choices = field(default_factory=choices)
    layers: dict[Layer, Image.Image] = field(default_factory=dict)
    stopped: bool = False
    first_steps: list[FirstStep] = field(default_factory=list)
    init: InitPictures | None = None
    kept: Mask | None = None

    def give_back(self) -> None:
        """Gives the host's options back that it was told not to restore."""
        options, self.options = self.options, {}
        shared.opts.data.update(options)

    def forget_batch(self) -> None:
        """Drops what belongs to one batch."""
        self.injection = self.attachment = None
        self.second_pass = self.vae_latents = self.pixels = None
        self.rows, self.layers = [], {}

    def note(self, p: Any, text: str) -> None:
        """Tells the user something once, below the pictures and in the API's `info`."""
        if text not in self.notes:
            self.notes.append(text)
            p.comment(f"LayerDiffuse: {text}")

    def pair(self, pictures: Sequence[Tensor]) -> None:
        """Notes which row of the batch each picture comes from.

        Args:
            pictures: What another extension may have taken from, added to, or edited, `3 H W` each.
        """
        made = [] if self.pixels is None else list(self.pixels)
        same_number = len(pictures) == len(made)
        self.rows = [
            _row_of(picture, made, place if same_number else None)
            for place, picture in enumerate(pictures)
        ]

    def decoded(self, row: int) -> npt.NDArray[np.uint8]:
        """Returns a row's picture `H W 3` as the VAE made it and the host truncates it."""
        assert self.pixels is not None
        pixels_u8: npt.NDArray[np.uint8] = (
            255.0 * self.pixels[row].float().cpu().movedim(0, 2).numpy()
        ).astype(np.uint8)
        return pixels_u8

    def row(self, batch_index: int) -> int | None:
        """Returns the row of the batch that a picture comes from, or None."""
        return self.rows[batch_index] if batch_index < len(self.rows) else None

    def layer(self, row: int) -> Layer:
        """Returns the layer that a row of the batch is."""
        outputs = self.settings.method.outputs
        return outputs[row % len(outputs)]

    def suffix(self, image: Image.Image) -> str | None:
        """Returns what a file of this picture is called after, or None if it is not of the job."""
        return next((name for result, name in self.results if result is image), None)


def _row_of(picture: Tensor, made: Sequence[Tensor], place: int | None) -> int | None:
    """Returns which row a picture is; the one at its place, if any, where it has been edited."""
    rows = range(len(made)) if place is None else (place, *range(len(made)))
    return next((row for row in rows if torch.equal(made[row], picture)), place)


def job_of(p: Any) -> Job | None:
    """Returns the job that runs on a processing object, or None; a copy of the object has none."""
    job: Job | None = find(p, JOB)
    return job


def begin(p: Any, settings: LayerSettings, pictures: int | None = None) -> Job:
    """Puts a job on a processing object and lays out its batch as whole sets.

    Args:
        p: The processing object. Its batch size, and lists of prompts and seeds, count sets.
        settings: The user's choices.
        pictures: The smallest number of pictures, where that and not sets is asked for.
    """
    method = settings.method
    names = ["batch_size", *LISTS]
    asked = {name: getattr(p, name) for name in names if hasattr(p, name)}
    if pictures is None:
        p.batch_size *= method.frames
        for name in set(LISTS) & asked.keys():
            setattr(p, name, _each_frame(name, asked[name], method.frames))
    else:
        p.batch_size = whole_sets(method, pictures) * method.frames
    job = Job(settings, asked)
    put(p, JOB, job)
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
    take(p, JOB)


def is_nested() -> bool:
    """Whether the caller runs inside another job, as detailers and upscalers start them."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_name != "process_images_inner":
        frame = frame.f_back
    return frame is not None
