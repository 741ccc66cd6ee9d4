"""One job's state; it lives on the host's processing object and ends with it."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from PIL import Image
from torch import Tensor

from ...imaging.images import FloatImage
from ...methods import Layer
from ...pipeline import whole_sets
from ...settings.layer_settings import LayerSettings
from .batch import Batch
from .choices import Choices, choices
from .state import JOB, State, find, put, take

LISTS = ("prompt", "negative_prompt", "hr_prompt", "hr_negative_prompt", "seed", "subseed")


@dataclass(eq=False)
class InitImages:
    """The init images of a job, in the host's order.

    Attributes:
        foregrounds: Straight RGBA where a foreground begins with it, None elsewhere.
        region: What the host cuts out of them, as left, top, right and bottom; None for all.
        mask: The host's mask at the job's size, to fill by; None for none.
        told: Whether the host has told of both.
        encoded: Whether they are in the host's latent.
    """

    foregrounds: list[FloatImage | None]
    region: tuple[int, int, int, int] | None = None
    mask: Image.Image | None = None
    told: bool = False
    encoded: bool = False

    def foreground(self, row: int) -> FloatImage | None:
        """Returns what a row of the batch begins with, if it is a foreground."""
        return self.foregrounds[row if len(self.foregrounds) > 1 else 0]


@dataclass(frozen=True, eq=False)
class FirstStep:
    """What the first step of a chain made for one set, and of what.

    Attributes:
        image: The blended image.
        settings: The set's, with its own words for wildcards.
        whole: Whether it was drawn to its end; a second step has no use for half an image.
    """

    image: Image.Image
    settings: LayerSettings
    prompt: str
    negative_prompt: str
    seed: int
    subseed: int
    whole: bool


@dataclass(eq=False)
class Undecoded:
    """A foreground whose transparency could not be found.

    Attributes:
        image: What is shown and saved in its place, RGB.
        decoded: The image as the VAE decoded it, where `image` is another.
        vae_latent: `4 h w`, VAE's scale, on the CPU.
        why: What the user should know of it, in sentences.
        path: The file that its latent was written to.
    """

    image: Image.Image
    decoded: Image.Image | None
    vae_latent: Tensor
    seed: int
    why: str
    path: Path | None = None


@dataclass(eq=False)
class Job(State):
    """What one job keeps between hooks.

    Attributes:
        settings: The user's choices.
        asked: What stood on the processing object before sets were laid out, by attribute.
        of_sets: The settings of each set, once laid out: with its own words for wildcards.
        by_row: Whether several init images count rows of the batch, not sets.
        choices: What the settings page says, once the host has applied the job's own overrides.
        init: The init images, in img2img.
        first_image: The transparent image to be upscaled, until it is encoded.
        batch: The current batch.
        results: The images made so far with the layer that each is.
        extras: Those of them that stand beside the layers, each with its infotext.
        first_steps: What a chain's first step made, set by set.
        undecoded: The foregrounds that stay RGB.
        numbers: What the host numbered the first saved image of each set, by folder, batch and
            place in the batch.
        notes: What the user should know of this job.
    """

    settings: LayerSettings
    asked: dict[str, Any]
    by_row: bool = False
    of_sets: list[LayerSettings] = field(default_factory=list)
    choices: Choices = field(default_factory=choices)
    init: InitImages | None = None
    first_image: FloatImage | None = None
    batch: Batch = field(default_factory=Batch)
    results: list[tuple[Image.Image, str]] = field(default_factory=list)
    extras: list[tuple[Image.Image, str]] = field(default_factory=list)
    first_steps: list[FirstStep] = field(default_factory=list)
    undecoded: list[Undecoded] = field(default_factory=list)
    numbers: dict[tuple[Path, int, int], str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def note(self, p: Any, text: str) -> None:
        """Tells the user something once, below the images and in the API's `info`."""
        if text not in self.notes:
            self.notes.append(text)
            p.comment(f"LayerDiffuse: {text}")

    def layer(self, row: int) -> Layer:
        """Returns the layer that a row of the batch is."""
        outputs = self.settings.method.outputs
        return outputs[row % len(outputs)]

    def is_undecoded(self, image: Image.Image) -> bool:
        """Whether an image is what a decoder needs that has found no transparency yet."""
        return any(image is known for one in self.undecoded for known in (one.image, one.decoded))

    def suffix(self, image: Image.Image) -> str | None:
        """Returns what a file of this image is called after, or None if it is not of the job."""
        return next((name for result, name in self.results if result is image), None)


def job_of(p: Any) -> Job | None:
    """Returns the job that runs on a processing object, or None; a copy of the object has none."""
    job: Job | None = find(p, JOB)
    return job


def begin(p: Any, settings: LayerSettings, *, by_row: bool = False) -> Job:
    """Puts a job on a processing object, whose batch size counts sets from now on.

    Args:
        p: The processing object. Its lists of prompts and seeds count sets, too.
        settings: The user's choices.
        by_row: Whether its batch size counts images: it becomes that of the fewest sets.
    """
    names = ["batch_size", *LISTS]
    asked = {name: getattr(p, name) for name in names if hasattr(p, name)}
    if by_row:
        p.batch_size = whole_sets(settings.method, p.batch_size)
    job = Job(settings, asked, by_row=by_row)
    put(p, JOB, job)
    return job


def asked_for_a_list(job: Job) -> bool:
    """Whether a script asked for an image of each of several prompts or seeds."""
    return any(isinstance(job.asked.get(name), list) for name in LISTS)


def end(p: Any) -> None:
    """Takes the job off and gives back what was asked for; loops run the same object again."""
    take(p, JOB)


def is_nested() -> bool:
    """Whether the caller runs inside another job, as detailers and upscalers start them."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_name != "process_images_inner":
        frame = frame.f_back
    return frame is not None
