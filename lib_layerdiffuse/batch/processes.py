"""Workers as processes of this computer, each with a device of its own."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from typing import Any

from tqdm import tqdm

from ..errors import HostError
from .pools import AT_ONCE, STARTS, Busy, Crew, Gone, Outcome, Task
from .worker import Setup, Worker


@dataclass(eq=False)
class _Process(Busy):
    setup: Setup
    process: Any = None
    pipe: Any = None


def serve(pipe: Connection, setup: Setup, workers: int) -> None:
    """Works until the pipe ends: in a process of its own, which dies with the one that began it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # The driver ends it; Windows has no other way.
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_die_with, args=(parent.sentinel,), daemon=True).start()
    _share_processors(workers)
    tqdm.set_lock(threading.RLock())  # Its own is one between processes, which a kill leaves over.
    from ..hosts.diffusers.quiet import quiet

    with quiet():
        worker = Worker(setup)
        sending = threading.Lock()

        def work(task: Task) -> None:
            answer = worker.run(task.requests, task.wanted, task.tries)
            with sending:
                pipe.send((task.number, answer))

        pipe.send(None)
        with ThreadPoolExecutor(AT_ONCE) as threads:
            while True:
                try:
                    threads.submit(work, pipe.recv())
                except (EOFError, OSError):
                    os._exit(0)


@contextmanager
def _no_interrupts() -> Iterator[None]:
    """Has processes begin deaf to Ctrl-C, which a terminal sends to all; ours comes afterwards."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _die_with(parent: int) -> None:
    wait([parent])
    os._exit(1)


def _share_processors(workers: int) -> None:
    if workers > 1 and "OMP_NUM_THREADS" not in os.environ:
        import torch

        torch.set_num_threads(max(1, (os.cpu_count() or 1) // workers))


class ProcessPool(Crew[_Process]):
    """One process for each device.

    Args:
        setup: For each worker.
        devices: One for each worker, as PyTorch names it; None for the best there is.

    Attributes:
        serve: What each process runs.
    """

    serve = staticmethod(serve)

    def __init__(self, setup: Setup, devices: Sequence[str | None]) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._count = len(devices)
        choices = [replace(setup.choice, device=device) for device in devices]
        super().__init__([_Process(replace(setup, choice=choice)) for choice in choices])
        for worker in self._workers:
            self._start(worker)

    def _start(self, worker: _Process) -> None:
        ours, theirs = self._context.Pipe()
        given = theirs, worker.setup, self._count
        process = self._context.Process(target=self.serve, args=given, daemon=True)
        with _no_interrupts():
            process.start()
        theirs.close()
        worker.process, worker.pipe = process, ours

    def submit(self, task: Task, *, by_itself: bool) -> None:
        """As in `Pool`."""
        worker = self._taking(task, by_itself=by_itself)
        with suppress(OSError):  # Where it is dead, `answers` will find that.
            worker.pipe.send(task)

    def answers(self, timeout: float) -> list[Outcome]:
        """As in `Pool`."""
        found: list[Outcome] = []
        watched = [one for w in self._workers for one in (w.pipe, w.process.sentinel)]
        there = set(wait(watched, timeout))
        for worker in list(self._workers):
            if worker.pipe in there or worker.process.sentinel in there:
                found += self._read(worker)
                if not worker.process.is_alive():
                    found += [(number, Gone.DIED) for number in sorted(worker.tasks)]
                    worker.drop(*worker.tasks)
                    worker.pipe.close()
                    self._replace(worker, _cannot_begin())
        return found

    def _read(self, worker: _Process) -> list[Outcome]:
        """Returns what a worker has sent; what it sent before it died is there, too."""
        found: list[Outcome] = []
        try:
            while worker.pipe.poll():
                said = worker.pipe.recv()
                if said is None:
                    self._begun(worker)
                else:
                    number, answer = said
                    found.append((number, answer))
                    worker.drop(number)
        except (EOFError, OSError):
            worker.process.join(1)
        return found

    def close(self) -> None:
        """As in `Pool`."""
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.process.join()
            worker.pipe.close()


def _cannot_begin() -> HostError:
    said = f"Workers' processes ended {STARTS} times before they could begin."
    return HostError(said, "Look above for what they said; fewer workers need less memory.")
