"""Runs of `layerdiffuse batch` by the tiny family, and workers that something happens to."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from command_runs import ROOT

from lib_layerdiffuse.batch import processes, worker
from lib_layerdiffuse.batch.job_file import read_job_file
from lib_layerdiffuse.batch.processes import ProcessPool
from lib_layerdiffuse.batch.requests import Checked, Checker
from lib_layerdiffuse.imaging.png import png_bytes
from lib_layerdiffuse.methods import METHODS
from lib_layerdiffuse.standalone.models import ModelChoice, Models

CRASHES = "row that crashes its worker"
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


def of_all_methods(folder: Path, count: int) -> list[dict[str, Any]]:
    """Rows by each of the ten methods in turn, and a bad one for every twenty of them."""
    (folder / "given.png").write_bytes(png_bytes(np.full((96, 96, 4), 200, np.uint8)))
    found: list[dict[str, Any]] = []
    for i in range(count):
        method = METHODS[i // 3 % len(METHODS)]
        images = {f"{layer.value}_image": "given.png" for layer in method.inputs}
        found.append(QUICK | {"method": method.id, "prompt": f"an orb {i}", "seed": i} | images)
        if i % 20 == 0:
            found.append({"method": method.id, "steps": 0})
    return found


def kill_one(jobs: Path, out: Path, chance: random.Random, done_before: int) -> None:
    """Runs until more rows than so many are done, and kills the run, or one of its workers first.

    A run whose worker is killed goes on; it is killed, too, some time later.
    """
    process = begin(jobs, out, "--skip-bad", "--quiet")
    while len(list(out.glob("rows/*/row.json"))) <= done_before and process.poll() is None:
        time.sleep(0.05)
    time.sleep(chance.uniform(0, 1))
    workers = _workers_of(process.pid)
    if workers and chance.random() < 0.5:
        with suppress(ProcessLookupError):
            os.kill(chance.choice(workers), signal.SIGKILL)
        time.sleep(chance.uniform(0, 8))
    process.kill()
    process.communicate()
    while any(Path(f"/proc/{worker}").exists() for worker in workers):  # They die with it.
        time.sleep(0.05)


def _workers_of(process: int) -> list[int]:
    try:
        children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
        return [int(one) for one in children if "spawn_main" in _command(one)]
    except OSError:
        return []


def _command(process: str) -> str:
    return Path(f"/proc/{process}/cmdline").read_text().replace("\0", " ")


def begin(jobs: Path, out: Path, *options: str) -> subprocess.Popen[bytes]:
    """Begins a run in a process of its own."""
    command = [sys.executable, "-m", "lib_layerdiffuse", "batch", str(jobs), "--out", str(out)]
    return subprocess.Popen(
        [*command, *options],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _crashing(*given: Any) -> None:
    draw = worker._decoded

    def crash(made: Any, *more: Any) -> Any:
        if CRASHES in made.job.prompt:
            os.kill(os.getpid(), signal.SIGKILL)
        return draw(made, *more)

    worker._decoded = crash
    processes.serve(*given)


def _on_full_disk(*given: Any) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    processes.serve(*given)


class KilledPool(ProcessPool):
    """Its first worker is killed before it can begin."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self._workers[0].process.kill()


class CrashingPool(ProcessPool):
    """Its workers are killed by the system when they come to a certain row."""

    serve = staticmethod(_crashing)


class FullDiskPool(ProcessPool):
    """Its workers can write nothing."""

    serve = staticmethod(_on_full_disk)
