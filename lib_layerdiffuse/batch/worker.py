"""One worker: runs chunks of rows and writes their results. Processes and clusters use the same.

It is called by two threads, each with a chunk of its own: while one samples, the other decodes and
writes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from ..errors import LayerDiffuseError, OutputError, in_one_line
from ..hosts.diffusers import DiffusersHost
from ..pipeline import Session
from ..standalone.defaults import LARGEST_SEED
from ..standalone.models import ModelChoice, Models
from ..standalone.run import layers_of
from ..standalone.sampled_sets import SetToSample, acting, beginning, sample_together
from ..standalone.two_steps import Step, run_chain
from ..weights.store import WeightStore
from .addresses import Pictures
from .described import Described, described
from .places import place_at
from .requests import Request
from .results import Effort, MadeFile, is_transparent, made_files, write_row

Told = Mapping[str, Any]
"""What is told of a row, as in its `row.json`, or of an error."""


@dataclass(frozen=True)
class Setup:
    """What a worker is made with; goes from process to process.

    Attributes:
        out: Where results are kept.
        choice: The checkpoint where a row names none, and how to compute.
        weights: Folders of the layer files, the own one first.
        offline: Whether none of them may be fetched.
        most: How many sets run together.
        redraws: How often a row whose foreground is not transparent is drawn again.
    """

    out: str
    choice: ModelChoice
    weights: tuple[Path, ...]
    offline: bool = True
    most: int = 4
    redraws: int = 0


@dataclass(frozen=True)
class Answer:
    """What came of a chunk.

    Attributes:
        done: What is told of each row that is done.
        errors: What each other row ended in, by id, as `LayerDiffuseError.as_dict` has it.
        stop: What keeps any row from being written; None for nothing.
    """

    done: Sequence[Told] = ()
    errors: Mapping[str, Told] = field(default_factory=dict)
    stop: str | None = None


@dataclass(frozen=True)
class _Drawn:
    """A row's files and what they took; or what the row ended in."""

    files: Sequence[MadeFile] = ()
    sampling: float = 0.0
    decoding: float = 0.0
    error: Exception | None = None


class Worker:
    """Runs rows on one device; keeps the last checkpoint and the last method's weights."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._place = place_at(setup.out)
        folder, *extra = setup.weights
        self._models = Models(
            lambda: WeightStore(folder, extra_folders=extra, offline=setup.offline)
        )
        self._pictures = Pictures()
        # Who samples holds the first, who uses the VAE and the decoder the second one. Who needs
        # both takes them in this order.
        self._sampling, self._decoding = Lock(), Lock()

    def run(self, requests: Sequence[Request], wanted: Collection[str], tries: int = 1) -> Answer:
        """Returns what came of rows of one group; each is written before this returns.

        Args:
            requests: What is sampled together.
            wanted: The ids of those to finish; the others are there because the last bits of a
                row depend on what is sampled with it.
            tries: Which try this is, for what is told of the rows.
        """
        done: list[Told] = []
        errors: dict[str, Told] = {}
        try:
            made = [self._described(one) for one in requests]
            drawn = self._draw(made, [one.id in wanted for one in requests])
            for request, one, first in zip(requests, made, drawn, strict=True):
                if first is None:
                    continue
                if first.error is None:
                    done.append(self._write(request, one, first, tries))
                else:
                    errors[request.id] = as_told(first.error)
        except OutputError as error:
            return Answer(done, errors, str(error))
        except Exception as error:
            _free_memory()
            there = {told["id"] for told in done}
            missing = [one.id for one in requests if one.id in wanted and one.id not in there]
            errors |= dict.fromkeys(missing, as_told(error))
        return Answer(done, errors)

    def _described(self, request: Request) -> Described:
        choice = self._setup.choice
        return described(request.values, self._pictures, choice, strict=request.strict)

    def _write(self, request: Request, made: Described, first: _Drawn, tries: int) -> Told:
        """Returns what is told of a row that is written; draws it again if it is opaque."""
        best, redraws = first, 0
        sampling, decoding = first.sampling, first.decoding
        while redraws < self._setup.redraws and not is_transparent(best.files):
            redraws, made = redraws + 1, _with_next_seeds(made)
            (again,) = self._draw([made], [True])
            if again is None or again.error is not None:
                break
            sampling, decoding = sampling + again.sampling, decoding + again.decoding
            if is_transparent(again.files):
                best = again
        effort = Effort(sampling, decoding, tries, redraws)
        return write_row(self._place, request, best.files, effort)

    def _draw(self, made: Sequence[Described], wanted: Sequence[bool]) -> list[_Drawn | None]:
        """Returns the files of the wanted rows of one group; of a chain there is one row only."""
        if made[0].second is not None:
            return [self._draw_chain(one) for one in made]
        with self._sampling:
            begun = perf_counter()
            host, session, latents = self._sample(made)
            sampling = (perf_counter() - begun) / len(made)
        drawn: list[_Drawn | None] = []
        for one, of_row, finish in zip(made, latents, wanted, strict=True):
            with self._decoding:
                done = _decoded(one, of_row, host, session, sampling) if finish else None
            drawn.append(done)
        return drawn

    def _draw_chain(self, made: Described) -> _Drawn:
        with self._sampling, self._decoding:
            begun = perf_counter()
            host, session = self._models.open(made.choice, made.job.settings.method.arch)
            steps = list(run_chain(made.job, session, host, second=made.second))
            return _Drawn(made_files(made, steps), sampling=perf_counter() - begun)

    def _sample(
        self, made: Sequence[Described]
    ) -> tuple[DiffusersHost, Session, list[list[Tensor]]]:
        """Returns the checkpoint, the layer files, and the latents of each row's sets."""
        first = made[0]
        with self._decoding:  # Nobody uses another checkpoint any more.
            host, session = self._models.open(first.choice, first.job.settings.method.arch)
            begin = beginning(first.job, session, host)
            begins = [begin] + [
                begin if one.job.init is None else beginning(one.job, session, host)
                for one in made[1:]
            ]
        sets: list[SetToSample] = [
            (one.job, index, own)
            for one, own in zip(made, begins, strict=True)
            for index in range(one.job.sets)
        ]
        latents: list[Tensor] = []
        with self._whole_device(first), acting(begin, host):
            for start in range(0, len(sets), self._setup.most):
                latents += sample_together(sets[start : start + self._setup.most], host)
        rest = iter(latents)
        return host, session, [[next(rest) for _ in range(one.job.sets)] for one in made]

    @contextmanager
    def _whole_device(self, made: Described) -> Iterator[None]:
        """Keeps others from the VAE where sampling moves it off the device."""
        with nullcontext() if made.choice.offload == "none" else self._decoding:
            yield


def _decoded(
    made: Described,
    latents: Sequence[Tensor],
    host: DiffusersHost,
    session: Session,
    sampling: float,
) -> _Drawn:
    begun = perf_counter()
    try:
        images = [
            image
            for index, of_set in enumerate(latents)
            for image in layers_of(made.job, index, of_set, session, host)
        ]
        files = made_files(made, [Step(made.job.settings, images)])
    except OutputError:
        raise
    except Exception as error:
        _free_memory()
        return _Drawn(error=error)
    return _Drawn(files, sampling, perf_counter() - begun)


def _with_next_seeds(made: Described) -> Described:
    layers = made.job.sets * made.job.settings.method.frames
    seed = (made.job.seed + layers) % (LARGEST_SEED + 2 - layers)
    return replace(made, job=replace(made.job, seed=seed))


def _free_memory() -> None:
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def as_told(error: BaseException) -> Told:
    """Returns what is told of an error."""
    if isinstance(error, LayerDiffuseError):
        return error.as_dict()
    said = in_one_line(error)
    return {"error": type(error).__name__, "message": said, "hint": "", "field": None}
