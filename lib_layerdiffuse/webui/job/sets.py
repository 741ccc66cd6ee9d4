"""Lays out a job's sets last: on the prompts, seeds and numbers that all other scripts have made.

Scripts write prompts, seeds and numbers in their hooks, in an order that nobody can know. So until
all hooks have run, everything counts sets: one prompt, one negative prompt and one seed for each.
What the host calls on the processing object right after them makes the rows of the layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, repeat
from typing import Any

from . import init_images
from .abort import abort
from .job import Job, job_of
from .layer_prompts import row_prompts
from .wildcards import drawn, undrawn

_PROMPTS = ("all_prompts", "all_negative_prompts")
_HIRES_PROMPTS = ("all_hr_prompts", "all_hr_negative_prompts")


class LaysOutLast:
    """What the host calls between the scripts' hooks, on the processing object of a job."""

    def init(self, all_prompts: Any, all_seeds: Any, all_subseeds: Any) -> None:
        """Makes the rows before the host takes the prompts and seeds; `process` is over."""
        job = job_of(self)
        if job is None:
            super().init(all_prompts, all_seeds, all_subseeds)  # type: ignore[misc]
            return
        _or_abort(self, job, _lay_out)
        p: Any = self
        super().init(p.all_prompts, p.all_seeds, p.all_subseeds)  # type: ignore[misc]

    def setup_conds(self) -> None:
        """Gives the rows their prompts before the host encodes them; `process_batch` is over."""
        job = job_of(self)
        if job is not None and not job.batch.prompted:
            job.batch.prompted = True
            _or_abort(self, job, _give_prompts)
        super().setup_conds()  # type: ignore[misc]


def lay_out_last(p: Any, job: Job) -> None:
    """Has the sets of a job laid out once all scripts' hooks have run.

    By a class and not by attributes, which a copy of the object would share with it.
    """
    kind = type(p)
    if not issubclass(kind, LaysOutLast):  # A copy, made while a job ran.
        job.change(p, "__class__", type(kind.__name__, (LaysOutLast, kind), {}))


def _or_abort(p: Any, job: Job, step: Any) -> None:
    try:
        step(p, job)
    except Exception as error:
        raise abort(p, error) from error


def _lay_out(p: Any, job: Job) -> None:
    frames = job.settings.method.frames
    if frames > 1:
        seeds, subseeds = _rows_seeds(p, frames)
        names = (*_PROMPTS, *(_HIRES_PROMPTS if getattr(p, "enable_hr", False) else ()))
        for name in names:
            setattr(p, name, _each(getattr(p, name), frames))
        p.all_seeds, p.all_subseeds = seeds, subseeds
        job.change(p, "batch_size", p.batch_size * frames)
    job.of_sets = drawn(p, job.settings, p.all_seeds[::frames])
    left = undrawn(job.of_sets[0]) if job.of_sets else None
    if left:
        job.note(p, f"nothing draws wildcards in layer prompts; {left} stays as it is written.")
    init_images.lay_out(p, job)


def _each(items: Sequence[Any], times: int) -> list[Any]:
    return list(chain.from_iterable(repeat(item, times) for item in items))


def _rows_seeds(p: Any, frames: int) -> tuple[list[int], list[int]]:
    """Returns each row's seed and subseed.

    Seeds count on from row to row, as the host counts from image to image. Those that a script
    has written with their prompts are their sets' first ones.
    """
    seeds, subseeds = p.all_seeds, p.all_subseeds
    if not _are_hosts(p):
        return [seed + frame for seed in seeds for frame in range(frames)], _each(subseeds, frames)
    step = 0 if p.subseed_strength else 1
    rows = range(len(seeds) * frames)
    return [seeds[0] + step * row for row in rows], [subseeds[0] + row for row in rows]


def _are_hosts(p: Any) -> bool:
    """Whether the prompts are one, and the seeds as the host counts them from it."""
    mains = (p.main_prompt, p.main_negative_prompt)
    given = any(isinstance(value, list) for value in (p.prompt, p.seed, p.subseed))
    written = any({*getattr(p, name)} != {main} for name, main in zip(_PROMPTS, mains, strict=True))
    step = 0 if p.subseed_strength else 1
    return not (
        given
        or written
        or any(seed != p.all_seeds[0] + step * i for i, seed in enumerate(p.all_seeds))
        or any(seed != p.all_subseeds[0] + i for i, seed in enumerate(p.all_subseeds))
    )


def _give_prompts(p: Any, job: Job) -> None:
    """Gives each row its layer's prompt; the host sets the main ones again for the infotext."""
    frames = job.settings.method.frames
    for name in _PROMPTS:  # For the infotexts, where a hook has written rows.
        setattr(p, name, _firsts(getattr(p, name), frames))
    own = job.of_sets[p.iteration * p.batch_size // frames :]
    hires = ("hr_prompts", "hr_negative_prompts") if getattr(p, "enable_hr", False) else ()
    for name in ("prompts", "negative_prompts", *hires):
        rows = _firsts(getattr(p, name), frames)
        setattr(p, name, row_prompts(own, rows, negative="negative" in name))


def _firsts(rows: Sequence[str], frames: int) -> list[str]:
    """Returns for each row the prompt of its set's first one."""
    return [rows[row - row % frames] for row in range(len(rows))]
