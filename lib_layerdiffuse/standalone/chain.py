"""Two SDXL methods in one go: a blended picture first, then the layer that is missing.

bg-to-fg puts something on a background and takes it off again, transparent; fg-to-bg puts a
foreground into a scene and takes the scene alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Any

from ..errors import SettingsError
from ..images import from_u8
from ..methods import Layer, LayerMethod, find_method
from .defaults import defaults

if TYPE_CHECKING:
    from ..hosts.diffusers import DiffusersHost
    from ..pipeline import Session
    from ..settings import LayerSettings
    from .job import Job, LayerPicture

OnProgress = Callable[[str, int, int], bool]


class Direction(str, Enum):
    """What is given, and what comes of it."""

    BG_TO_FG = "bg-to-fg"
    FG_TO_BG = "fg-to-bg"

    @property
    def methods(self) -> tuple[LayerMethod, LayerMethod]:
        """The methods of both steps; the second one reads the first one's blended picture."""
        ids = {
            "bg-to-fg": ("bg_to_blended_sdxl", "bg_blended_to_fg_sdxl"),
            "fg-to-bg": ("fg_to_blended_sdxl", "fg_blended_to_bg_sdxl"),
        }[self.value]
        return find_method(ids[0]), find_method(ids[1])

    @property
    def given(self) -> Layer:
        """The layer that the user has."""
        return self.methods[0].inputs[0]


@dataclass(frozen=True)
class Step:
    """What one step of a chain made.

    Attributes:
        settings: The step's, with its method.
        pictures: One layer for each set, in order.
    """

    settings: LayerSettings
    pictures: Sequence[LayerPicture]


@dataclass(frozen=True)
class SecondStep:
    """Where the second step differs from the first; None for the author's own choice."""

    sampler: str | None = None
    stop_at: float | None = None


def run_chain(
    job: Job,
    session: Session,
    host: DiffusersHost,
    *,
    second: SecondStep | None = None,
    on_progress: OnProgress | None = None,
) -> Iterator[Step]:
    """Yields both steps, each when it is done; the blended pictures come first.

    A layer's own prompt is put before the main one in the step that makes the layer, as in the
    methods that make several at once. The second step runs once for each blended picture, with
    that one's seed.

    Args:
        job: The first step's, with its method and the given picture.
        session: Weights, with those of the first method or others.
        host: An SDXL checkpoint.
        second: How the second step differs.
        on_progress: As in `run`; the step is named before its stage.

    Raises:
        SettingsError: The job's method begins no chain.
    """
    from .job import run

    after = second_method(job.settings.method)
    first = _for_layer(job, Layer.BLENDED)
    job.settings.check_pictures()
    blended = run(first, session, host, on_progress=_naming("1 of 2", on_progress))
    yield Step(first.settings, blended)
    last = second_job(job, after, second or SecondStep())
    pictures: list[LayerPicture] = []
    for made in blended:
        settings = replace(last.settings, blended_image=from_u8(made.picture[..., :3]))
        one = replace(last, settings=settings, seed=made.seed, sets=1)
        step = run(one, session, host, on_progress=_naming("2 of 2", on_progress))
        pictures += [replace(picture, set_index=made.set_index) for picture in step]
    yield Step(last.settings, pictures)


def second_method(first: LayerMethod) -> LayerMethod:
    """Returns the method that goes on where another one ends.

    Raises:
        SettingsError: It begins no chain.
    """
    for direction in Direction:
        before, after = direction.methods
        if before is first:
            return after
    ids = ", ".join(direction.methods[0].id for direction in Direction)
    raise SettingsError(
        f"Expected the first method of a chain, got {first.id}.",
        f"Use one of: {ids}.",
        field="method",
    )


def second_job(job: Job, method: LayerMethod, second: SecondStep) -> Job:
    """Returns the second step's job, without its blended picture."""
    author = defaults(method, tiny=False)
    stop_at = author.stop_at if second.stop_at is None else second.stop_at
    settings = replace(job.settings, method=method, stop_at=stop_at)
    changed = replace(job, settings=settings, sampler=second.sampler or author.sampler, init=None)
    return _for_layer(changed, method.outputs[0])


def _for_layer(job: Job, layer: Layer) -> Job:
    """Returns the job with a layer's own prompts before the main ones, as text of the prompts."""
    settings = job.settings

    def joined(own: str, main: str) -> str:
        return ", ".join(part for part in (own, main) if part)

    blank: dict[str, Any] = {
        f"{each.value}_{kind}": "" for each in Layer for kind in ("prompt", "negative_prompt")
    }
    return replace(
        job,
        settings=replace(settings, **blank),
        prompt=joined(settings.prompt(layer), job.prompt),
        negative_prompt=joined(settings.negative_prompt(layer), job.negative_prompt),
    )


def _naming(step: str, on_progress: OnProgress | None) -> OnProgress | None:
    if on_progress is None:
        return None
    return lambda stage, done, total: on_progress(f"{step}: {stage}", done, total)
