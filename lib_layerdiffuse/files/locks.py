"""A lock between processes, kept in a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

# huggingface_hub depends on filelock and so brings it.
from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout


@contextmanager
def file_lock(path: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Holds the lock at `path`; calls `waiting` once a second until it is free.

    The system frees it when its holder dies, except on a drive that knows no locks: there the
    file itself is the lock, and has to be deleted by hand after a crash.

    Raises:
        OSError: The file cannot be made.
    """
    lock = _acquire(path, waiting)
    try:
        yield
    finally:
        lock.release()


def _acquire(path: Path, waiting: Callable[[], None]) -> BaseFileLock:
    lock: BaseFileLock = FileLock(path)
    while True:
        try:
            lock.acquire(timeout=1)
        except Timeout:
            waiting()
        except NotImplementedError:
            lock = SoftFileLock(path)
        else:
            return lock
