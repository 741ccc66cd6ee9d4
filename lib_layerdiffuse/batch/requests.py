"""Checked rows: what each asks for, the id that follows from it, and what it can share a run with.

An id is the hash of the request and of the bytes of all that it names: images, checkpoint, LoRAs
and the method's weight files. The same id is the same result, so no row is made twice.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import LayerDiffuseError, SettingsError
from ..files.existing import unreadable
from ..methods import DECODERS, ENCODERS, LayerMethod
from ..released import WeightFile
from ..settings.chains import steps
from ..standalone.defaults import LARGEST_SEED, check_seeds
from ..standalone.models import ModelChoice, Models
from ..weights.checksums import sha256_of
from .addresses import Pictures
from .described import Described, described, images_of, normal
from .job_file import BadLine, JobLine

_FORM = 1
"""Part of every id: another number where the same request would give another result."""
_ID_DIGITS = 24


Group = tuple[str, str, str]
"""Names the models, then the method, then the rest that rows have to share."""


@dataclass(frozen=True)
class Request:
    """One row, checked.

    Attributes:
        id: Names the result.
        line: The number of the row's line in the job file.
        values: What it says, under the API's names, with whole addresses and its seed.
        strict: Whether the values are of JSON's types.
        group: Rows of one group differ in prompts, seeds and init images only.
        sets: How many sets of layers it makes.
    """

    id: str
    line: int
    values: Mapping[str, Any]
    strict: bool
    group: Group
    sets: int


@dataclass(frozen=True)
class Checked:
    """A job file, read whole.

    Attributes:
        requests: What can be run, each once, in the file's order.
        bad: What cannot.
        repeated: How many rows ask for the same as one before them.
    """

    requests: Sequence[Request]
    bad: Sequence[BadLine]
    repeated: int


class Checker:
    """Checks rows; keeps the hashes of what they name.

    Args:
        models: Whose weight files are used.
        choice: The checkpoint where a row names none, and how to compute.
        base: The folder that rows' relative addresses begin at.
    """

    def __init__(self, models: Models, choice: ModelChoice, base: str) -> None:
        self._models, self._choice, self._base = models, choice, base
        self._pictures = Pictures()
        self._hashes: dict[Path, str] = {}
        self._alike: Counter[str] = Counter()

    def check(self, lines: Iterable[JobLine | BadLine]) -> Checked:
        """Returns all rows, good and bad; weight files that are missing are fetched.

        Raises:
            WeightsError: A weight file cannot be used.
        """
        found: list[tuple[JobLine, dict[str, Any], _Outline]] = []
        bad: list[BadLine] = []
        for line in lines:
            if isinstance(line, BadLine):
                bad.append(line)
                continue
            try:
                values = normal(line.values, self._base)
                made = described(values, self._pictures, self._choice, strict=line.strict)
                found.append((line, *self._seeded(values, made)))
            except LayerDiffuseError as error:
                bad.append(BadLine(line.number, error))
        return self._checked(found, bad)

    def _checked(
        self, found: Sequence[tuple[JobLine, dict[str, Any], _Outline]], bad: list[BadLine]
    ) -> Checked:
        requests: dict[str, Request] = {}
        repeated = 0
        for line, values, outline in found:
            try:
                name = self._id(values, outline)
            except SettingsError as error:
                bad.append(BadLine(line.number, error))
                continue
            repeated += name in requests
            models, method, rest = outline.group
            group = models, method, _digest([rest, outline.chain and name])
            made = Request(name, line.number, values, line.strict, group, outline.sets)
            requests.setdefault(name, made)
        bad.sort(key=lambda one: one.number)
        return Checked(list(requests.values()), bad, repeated)

    def _seeded(self, values: dict[str, Any], made: Described) -> tuple[dict[str, Any], _Outline]:
        """Returns the values with a seed, and what else is to be known of the row.

        A row without a seed has one that follows from what it says, and from how many rows before
        it say the same, so that another run draws the same.
        """
        images = images_of(values, made.job.settings.method)
        outline = _outline(made, {name: self._pictures.digest(at) for name, at in images.items()})
        seed = made.job.seed
        if not made.seeded:
            said = _digest({**values, "seed": None, **outline.images})
            number, self._alike[said] = self._alike[said], self._alike[said] + 1
            layers = made.job.sets * made.job.settings.method.frames
            seed = int(_digest([said, number]), 16) % (LARGEST_SEED + 2 - layers)
        check_seeds(seed, made.job.sets * made.job.settings.method.frames)
        return {**values, "seed": seed}, outline

    def _id(self, values: Mapping[str, Any], outline: _Outline) -> str:
        choice = outline.choice
        store = self._models.session(choice.tiny).store
        said = {**values, **outline.images, "checkpoint": None, "loras": None}
        weights = [store.sha256(file) for file in outline.weights]
        loras = [(self._hash(path, "loras"), weight) for path, weight in choice.loras]
        checkpoint = self._hash(
            choice.checkpoint or self._models.tiny_checkpoint(outline.method.arch), "checkpoint"
        )
        more = [choice.dtype, choice.prediction, loras, checkpoint, weights]
        return _digest([_FORM, said, more])

    def _hash(self, path: Path, field: str) -> str:
        if path not in self._hashes:
            try:
                self._hashes[path] = _hash_of(path)
            except OSError as error:
                raise unreadable(path, error, field=field) from error
        return self._hashes[path]


@dataclass(frozen=True)
class _Outline:
    """What is kept of a row's job, without images.

    Attributes:
        images: The SHA-256 of each image's file, by setting.
        group: What the row must share with others that run with it.
    """

    method: LayerMethod
    choice: ModelChoice
    images: Mapping[str, str]
    weights: tuple[WeightFile, ...]
    group: Group
    chain: bool
    sets: int


def _outline(made: Described, images: Mapping[str, str]) -> _Outline:
    job, settings = made.job, made.job.settings
    files: list[WeightFile] = []
    for method in steps(settings.method, settings.chain):
        files.append(method.weights)
        if method.decodes:
            files.append(DECODERS[method.arch])
    if job.init is not None:
        files.append(ENCODERS[settings.method.arch])
    given = {name: sha256 for name, sha256 in images.items() if name != "init"}
    choice = made.choice
    loras = [(str(path), weight) for path, weight in choice.loras]
    group = (
        _digest([str(choice.checkpoint), settings.method.arch.value, loras, choice.prediction]),
        settings.method.id,
        _digest(
            [
                (job.width, job.height, job.steps, job.cfg, job.sampler),
                (settings.strength, settings.stop_at, settings.resize_mode.value),
                (given, job.init is not None, job.denoise),
            ]
        ),
    )
    return _Outline(settings.method, choice, images, tuple(files), group, settings.chain, job.sets)


def _hash_of(path: Path) -> str:
    """Returns the SHA-256 of a file, or one of all files in a folder and their names."""
    if path.is_file():
        return sha256_of(path)
    files = sorted(one for one in path.rglob("*") if one.is_file())
    return _digest([(one.relative_to(path).as_posix(), sha256_of(one)) for one in files])


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:_ID_DIGITS]


def chunks(requests: Sequence[Request], most: int) -> list[list[Request]]:
    """Returns the rows that run together, group by group.

    The division follows from the whole file alone and not from what is done of it, because what a
    row shares its run with decides its last bits.

    Args:
        requests: All rows of the file.
        most: How many sets run together; a row with more of them runs alone.
    """
    found: list[list[Request]] = []
    groups: dict[Group, list[Request]] = {}
    first: dict[tuple[str, ...], int] = {}
    for index, request in enumerate(requests):
        groups.setdefault(request.group, []).append(request)
        for depth in range(1, len(request.group) + 1):
            first.setdefault(request.group[:depth], index)
    # What is loaded stays in use: groups of the same models and method follow each other.
    for group in sorted(groups, key=lambda one: [first[one[:depth]] for depth in (1, 2, 3)]):
        chunk: list[Request] = []
        for row in groups[group]:
            if chunk and sum(one.sets for one in chunk) + row.sets > most:
                found.append(chunk)
                chunk = []
            chunk.append(row)
        found.append(chunk)
    return found
