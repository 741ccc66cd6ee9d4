"""Two SDXL methods in one go: a blended image first, then the layer that is missing.

bg-to-fg puts something on a background and takes it off again, transparent; fg-to-bg puts a
foreground into a scene and takes the scene alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING

from ..callbacks import OnProgress
from ..imaging.images import from_u8
from ..methods import METHODS, Layer, LayerMethod
from ..settings.chains import (
    SECOND_STEPS,
    begins_chain,
    second_method,
    second_settings,
    step_prompt,
    without_layer_prompts,
)
from .generation import Generation, check_job

if TYPE_CHECKING:
    from ..hosts.diffusers import DiffusersHost
    from ..pipeline import Session
    from ..settings.layer_settings import LayerSettings
    from .generation import LayerImage


class Direction(str, Enum):
    """What is given, and what comes of it."""

    BG_TO_FG = "bg-to-fg"
    FG_TO_BG = "fg-to-bg"

    @property
    def methods(self) -> tuple[LayerMethod, LayerMethod]:
        """The methods of both steps; the second one reads the first one's blended image."""
        first = next(m for m in METHODS if m.inputs == (self.given,) and begins_chain(m))
        return first, second_method(first)

    @property
    def given(self) -> Layer:
        """The layer that the user has."""
        return Layer(self.value.partition("-to-")[0])


@dataclass(frozen=True)
class Step:
    """What one step of a chain made.

    Attributes:
        settings: The step's, with its method.
        images: One layer for each set, in order.
    """

    settings: LayerSettings
    images: Sequence[LayerImage]


@dataclass(frozen=True)
class SecondStep:
    """Where the second step differs from the first; None for the author's own choice."""

    sampler: str | None = None
    stop_at: float | None = None


def run_chain(
    job: Generation,
    session: Session,
    host: DiffusersHost,
    *,
    second: SecondStep | None = None,
    on_progress: OnProgress | None = None,
) -> Iterator[Step]:
    """Yields both steps, each when it is done; the blended images come first.

    A layer's own prompt is put before the main one in the step that makes the layer, as in the
    methods that make several at once. The second step runs once for each blended image, with
    that one's seed.

    Args:
        job: The first step's, with its method and the given image.
        session: Weights, with those of the first method or others.
        host: An SDXL checkpoint.
        second: How the second step differs.
        on_progress: As in `run`; the step is named before its stage.

    Raises:
        SettingsError: The job's method begins no chain.
        UndrawnError: As in `run`; it has what is done of this step.
    """
    from .run import run
    from .undrawn import UndrawnError, leaves_latents

    check_steps(job, second)
    last = second_job(job, second or SecondStep())
    first = _with_prompts(job, job.settings, Layer.BLENDED)
    blended = run(first, session, host, on_progress=_naming("1 of 2", on_progress))
    yield Step(first.settings, blended)
    images: list[LayerImage] = []
    for made in blended:
        settings = replace(last.settings, blended_image=from_u8(made.image[..., :3]))
        one = replace(last, settings=settings, seed=made.seed, sets=1)
        try:
            step = run(one, session, host, on_progress=_naming("2 of 2", on_progress))
        except UndrawnError as error:
            raise error.after(images, made.set_index) from error.__cause__
        except BaseException as error:
            if not images or not leaves_latents(error, host):
                raise
            raise UndrawnError(error, last.settings, images, ()) from error
        images += [replace(image, set_index=made.set_index) for image in step]
        if any(image.interrupted for image in step):
            break
    yield Step(last.settings, images)


def check_steps(job: Generation, second: SecondStep | None = None) -> None:
    """Checks what can be known of both steps before a checkpoint is loaded.

    What only the second step would refuse must not cost the first one's sampling.

    Raises:
        SettingsError: As `check_job`, or the job's method begins no chain.
    """
    from ..hosts.diffusers.sampling import check_sampler

    check_sampler(second_job(job, second or SecondStep()).sampler)
    check_job(job)


def second_job(job: Generation, second: SecondStep) -> Generation:
    """Returns the second step's job, without its blended image."""
    settings = second_settings(job.settings, stop_at=second.stop_at)
    sampler = second.sampler or SECOND_STEPS[settings.method.id].sampler
    changed = replace(job, settings=settings, sampler=sampler, init=None)
    return _with_prompts(changed, job.settings, settings.method.outputs[0])


def _with_prompts(job: Generation, own: LayerSettings, layer: Layer) -> Generation:
    """Returns the job with a layer's own prompts before the main ones, as text of the prompts."""
    from ..hosts.diffusers.prompt_changes import put_before_each

    return replace(
        job,
        settings=replace(without_layer_prompts(job.settings), chain=False),
        prompt=put_before_each(own.prompt(layer), job.prompt),
        negative_prompt=step_prompt(own.negative_prompt(layer), job.negative_prompt),
    )


def _naming(step: str, on_progress: OnProgress | None) -> OnProgress | None:
    if on_progress is None:
        return None
    return lambda stage, done, total: on_progress(f"{step}: {stage}", done, total)
