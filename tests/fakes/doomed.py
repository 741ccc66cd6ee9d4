"""Workers to which something happens.

A worker dies of a row whose prompt says so, and of an order: a file in a folder beside the one of
the results, which the first worker that finds it removes. Another order keeps workers from
beginning as long as it is there.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from lib_layerdiffuse.batch import places, processes, ray_pool, worker
from lib_layerdiffuse.cli import main

CRASHES = "row that crashes its worker"
IN_ROW, IN_WRITE, NOT_YET = "row", "write", "not yet"
"""Orders: to die of the next row, and after half of the next file; not to begin."""

_Worker = worker.Worker
_decoded, _whole_file = worker._decoded, places.whole_file


def order(out: str | Path, what: str) -> Path:
    """The file of an order to the workers that write to a folder."""
    return Path(f"{out}.orders", what)


class Doomed(_Worker):
    """A worker of this kind; it takes its whole process along."""

    def __init__(self, setup: worker.Setup) -> None:
        super().__init__(setup)
        while order(setup.out, NOT_YET).exists():
            time.sleep(0.1)

        def decoded(made: Any, *more: Any) -> Any:
            if CRASHES in made.job.prompt or _taken(order(setup.out, IN_ROW)):
                _die()
            return _decoded(made, *more)

        @contextmanager
        def whole_file(path: Path) -> Iterator[BinaryIO]:
            with _whole_file(path) as out:
                yield out
                if _taken(order(setup.out, IN_WRITE)):
                    out.truncate(out.tell() // 2)
                    out.flush()
                    _die()

        worker._decoded, places.whole_file = decoded, whole_file


def _taken(order: Path) -> bool:
    try:
        order.unlink()
    except FileNotFoundError:
        return False
    return True


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def serve(*given: Any) -> None:
    """What a process of such a worker runs."""
    processes.Worker = Doomed
    processes.serve(*given)


def run(arguments: list[str]) -> int:
    """Runs `layerdiffuse batch` with such workers, in processes or on a cluster."""
    ray_pool.Worker = Doomed
    processes.ProcessPool.serve = staticmethod(serve)
    return main(["batch", *arguments])
