"""Runs of `layerdiffuse batch`, in processes or on a Ray cluster, to which something happens."""

from __future__ import annotations

import ctypes
import hashlib
import json
import multiprocessing
import os
import random
import resource
import signal
import sys
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import doomed
from processes_here import SOON, children_of, is_called, wait_for
from ray_nodes import RAY, Cluster

_MOST = 3000
"""Bytes of a file on a disk that is full: fewer than an image has."""
_NEW_NETWORK = 0x40000000  # CLONE_NEWNET
SIGKILL = signal.SIGKILL


class Run:
    """A run in a process of its own, with its workers.

    It is a fork of this process: to load the libraries anew takes longer than many rows.

    Args:
        jobs: The job file.
        out: The folder of results.
        options: More of the command line.
        cluster: Where its workers are; None for processes of its own.
    """

    def __init__(
        self, jobs: Path, out: Path, *options: str, cluster: Cluster | None = None
    ) -> None:
        self.out, self.cluster = out, cluster
        doomed.order(out, "").mkdir(exist_ok=True)
        self._log = out.with_name(f"{out.name}.log")
        self._log.touch()
        arguments = [str(jobs), "--out", str(out), *options]
        if cluster is not None:
            arguments += ["--address", cluster.address]
        space = None if cluster is None else cluster.head.where.space
        fork = multiprocessing.get_context("fork")
        self.process = fork.Process(target=_drive, args=(arguments, self._log, space))
        self.process.start()
        self._seen: set[int] = set()

    @property
    def ended(self) -> bool:
        return self.process.exitcode is not None

    @property
    def said(self) -> str:
        return self._log.read_text("utf-8")

    def done(self) -> int:
        return sum(1 for _ in self.out.glob("rows/*/row.json"))

    @property
    def workers(self) -> list[int]:
        own = [] if self.process.pid is None else children_of(self.process.pid)
        found = own if self.cluster is None else self.cluster.processes
        workers = [one for one in found if _is_worker(one)]
        self._seen.update(workers)
        return workers

    def wait(self) -> int:
        """Its status, once no worker of it is left."""
        self.process.join(SOON)
        status = self.process.exitcode
        assert status is not None, self.said
        wait_for(lambda: not any(_is_worker(one) for one in {*self._seen, *self.workers}))
        return status


def _drive(arguments: Sequence[str], log: Path, space: str | None) -> None:
    with log.open("wb") as out:
        os.dup2(out.fileno(), 1)
        os.dup2(out.fileno(), 2)
    sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
    os.environ.update(RAY)
    warnings.resetwarnings()
    warnings.simplefilter("ignore")
    if space is not None:
        with Path("/run/netns", space).open("rb") as there:
            if ctypes.CDLL(None, use_errno=True).setns(there.fileno(), _NEW_NETWORK):
                raise OSError(ctypes.get_errno(), "setns")
    sys.exit(doomed.run(list(arguments)))


def _is_worker(process: int) -> bool:
    return is_called(process, "ray::Doomed", "spawn_main")


class Kills:
    """What happens to runs, each by its name. Each returns the status that the run ends with, or
    None for a run that goes on.

    Args:
        chance: Draws.
    """

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance

    def driver(self, run: Run) -> int | None:
        run.process.kill()
        return -SIGKILL

    def worker(self, run: Run) -> int | None:
        wait_for(lambda: bool(run.workers))
        with suppress(ProcessLookupError):
            os.kill(self._chance.choice(run.workers), SIGKILL)
        return None

    def node(self, run: Run) -> int | None:
        """A node is lost, and comes back."""
        assert run.cluster is not None
        run.cluster.kill_other()
        run.cluster.start_other()
        return None

    def write(self, run: Run) -> int | None:
        return _obey(run, doomed.IN_WRITE)

    def row(self, run: Run) -> int | None:
        return _obey(run, doomed.IN_ROW)

    def disk(self, run: Run) -> int | None:
        """No file grows beyond some size any more, of the workers' or of the driver's."""
        wait_for(lambda: bool(run.workers))
        found = [run.process.pid] if self._chance.random() < 0.3 else run.workers
        for one in found:
            with suppress(ProcessLookupError):
                limit = self._chance.randrange(_MOST), resource.RLIM_INFINITY
                resource.prlimit(one, resource.RLIMIT_FSIZE, limit)
        return 2


def _obey(run: Run, what: str) -> None:
    order = doomed.order(run.out, what)
    order.touch()
    wait_for(lambda: run.ended or not order.exists())
    assert not order.exists(), "the run has ended before"


class Witness:
    """Sees that rows that are done are whole, and that they stay as they are.

    Args:
        out: The folder of results.
    """

    def __init__(self, out: Path) -> None:
        self._out = out
        self._seen: dict[Path, int] = {}

    def look(self) -> None:
        for told in self._out.glob("rows/*/row.json"):
            if told not in self._seen:
                files = _whole_files(self._out, json.loads(told.read_text("utf-8")))
                self._seen.update({one: _stamp(one) for one in [told, *files]})
        for path, stamp in self._seen.items():
            assert _stamp(path) == stamp, path


def _whole_files(out: Path, row: Mapping[str, Any]) -> list[Path]:
    for one in row["files"]:
        assert hashlib.sha256((out / one["file"]).read_bytes()).hexdigest() == one["sha256"], one
    return [out / one["file"] for one in row["files"]]


def _stamp(path: Path) -> int:
    return path.stat().st_mtime_ns
