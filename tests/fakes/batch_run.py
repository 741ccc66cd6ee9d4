"""Runs of `layerdiffuse batch` by the tiny family, and workers that something happens to."""

from __future__ import annotations

import json
import resource
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import doomed
import numpy as np
from doomed import CRASHES

from lib_layerdiffuse.batch import processes, worker
from lib_layerdiffuse.batch.job_file import read_job_file
from lib_layerdiffuse.batch.processes import ProcessPool
from lib_layerdiffuse.batch.requests import Checked, Checker
from lib_layerdiffuse.imaging.png import png_bytes
from lib_layerdiffuse.methods import METHODS
from lib_layerdiffuse.standalone.models import ModelChoice, Models

QUICK = {"method": "fg_attn_sd15", "steps": 1, "sampler": "Euler", "views": "1"}
_WEIGHTS = (Path("no-layer-files"),)


def rows(count: int, **more: object) -> list[dict[str, Any]]:
    return [QUICK | {"prompt": f"a red mushroom {i}", "seed": i} | more for i in range(count)]


def job_file(path: Path, lines: Iterable[Mapping[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def checked(path: Path) -> Checked:
    return checker(path.parent).check(read_job_file(str(path)))


def no_store() -> NoReturn:
    raise AssertionError("the tiny family has its own files")


def checker(folder: Path) -> Checker:
    return Checker(Models(no_store), ModelChoice(), str(folder))


def setup(out: Path, **more: Any) -> worker.Setup:
    return worker.Setup(str(out), ModelChoice(), _WEIGHTS, **more)


def results(out: Path) -> dict[str, dict[str, bytes]]:
    """The files of each row that is done, by id, without what tells of times."""
    found: dict[str, dict[str, bytes]] = {}
    for told in out.glob("rows/*/row.json"):
        files = (one for one in told.parent.iterdir() if one != told)
        found[told.parent.name] = {one.name: one.read_bytes() for one in files}
    return found


def told(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "results.jsonl").read_text("utf-8").splitlines()]


_BAD = (
    '{"method": "fg_attn_sd15", "steps": 0}',
    '{"method": "fg_attn_sdxl", "stepz": 1}',
    '{"method": "fg_to_bg_sd15", "prompt": "a room"}',
    '{"method": "fg_attn_sd15", "init": "none.png"}',
    '{"prompt": "no method"}',
    '{"method": "joint_sd15"',
)
_EVERY = 20
"""Rows to a bad line."""


def of_all_methods(folder: Path, count: int) -> tuple[Path, list[int]]:
    """A file of rows by each of the ten methods in turn, and the numbers of its bad lines.

    One row kills whatever works on it. Some make two sets or files of layers.
    """
    (folder / "given.png").write_bytes(png_bytes(np.full((96, 96, 4), 200, np.uint8)))
    lines: list[str] = []
    bad: list[int] = []
    for i in range(count):
        if i % _EVERY == 0:
            lines.append(_BAD[i // _EVERY % len(_BAD)])
            bad.append(len(lines))
        method = METHODS[i // 3 % len(METHODS)]
        images = {f"{layer.value}_image": "given.png" for layer in method.inputs}
        row = QUICK | {"method": method.id, "prompt": f"an orb {i}", "seed": i, "size": "64"}
        row |= {} if i % 5 == 1 else {"views": "1"}
        row |= images
        row |= {"layers": "psd"} if i % 7 == 1 else {}
        row |= {"sets": 2} if i % 11 == 1 else {}
        if i == 0:  # It is alone, so that few workers die of it.
            row |= {"prompt": CRASHES, "sets": 5}
        lines.append(json.dumps(row))
    path = folder / "j.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path, bad


def _on_full_disk(*given: Any) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    processes.serve(*given)


def _cannot_begin(*_: Any) -> NoReturn:
    raise SystemExit("it cannot begin")


class KilledPool(ProcessPool):
    """Its first worker is killed before it can begin."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self._workers[0].process.kill()


class BrokenPool(ProcessPool):
    """Its workers cannot begin."""

    serve = staticmethod(_cannot_begin)


class CrashingPool(ProcessPool):
    """Its workers are killed by the system when they come to a certain row."""

    serve = staticmethod(doomed.serve)


class FullDiskPool(ProcessPool):
    """Its workers can write nothing."""

    serve = staticmethod(_on_full_disk)
