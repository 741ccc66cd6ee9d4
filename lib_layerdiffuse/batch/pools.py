"""What the driver knows of workers, wherever they are: tasks, room for them, and answers."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Generic, Protocol, TypeAlias, TypeVar

from ..errors import HostError
from .figures import counted
from .requests import Request
from .worker import Answer

_log = logging.getLogger(__name__)
AT_ONCE = 2
"""Tasks that a worker has at a time: one is sampled while the other is decoded and written."""
STARTS = 3
"""Workers that may end before they begin, one after the other, until one is given up."""


@dataclass(frozen=True)
class Task:
    """What a worker gets: the arguments of `Worker.run`, and a number to tell tasks apart."""

    number: int
    requests: Sequence[Request]
    wanted: frozenset[str]
    tries: int


class Gone(Enum):
    """Why a task has no answer."""

    DIED = "its worker died"
    LOST = "its worker was lost with its computer, of which no row is the cause"


Outcome: TypeAlias = "tuple[int, Answer | Gone]"
"""A task's number, and what came of it."""


class Pool(Protocol):
    """Workers, wherever they are."""

    def has_room(self, *, by_itself: bool) -> bool:
        """Whether a worker can take another task, or has none at all."""
        ...

    def submit(self, task: Task, *, by_itself: bool) -> None:
        """Gives a task to a worker; one by itself shares the worker with no other."""
        ...

    def answers(self, timeout: float) -> list[Outcome]:
        """Returns what came of the tasks that have ended.

        Raises:
            HostError: No worker can be started.
        """
        ...

    def close(self) -> None:
        """Ends all workers, at once."""
        ...


@dataclass(eq=False)
class Busy:
    """What a worker is at.

    Attributes:
        ready: Whether it has begun to work. Until then it gets no task: a cluster may have no place
            for it for hours, and what it dies of is no fault of a row.
        tasks: Its tasks by number.
        by_itself: Whether the one that it has shares it with no other.
    """

    ready: bool = field(default=False, init=False)
    tasks: set[int] = field(default_factory=set, init=False)
    by_itself: bool = field(default=False, init=False)

    def take(self, number: int, *, by_itself: bool) -> None:
        """Notes a task."""
        self.tasks.add(number)
        self.by_itself = by_itself

    def drop(self, *numbers: int) -> None:
        """Notes that tasks have ended."""
        self.tasks.difference_update(numbers)
        self.by_itself = self.by_itself and bool(self.tasks)


AnyBusy = TypeVar("AnyBusy", bound=Busy)


def with_room(workers: Sequence[AnyBusy], *, by_itself: bool) -> AnyBusy | None:
    """Returns the worker with the fewest tasks that can take another one; None for none."""
    most = 1 if by_itself else AT_ONCE
    free = [one for one in workers if one.ready and len(one.tasks) < most and not one.by_itself]
    return min(free, key=lambda one: len(one.tasks), default=None)


class Crew(Generic[AnyBusy]):
    """What all pools do alike: they know their workers, who gets the next task, and who is given
    up.

    Args:
        workers: The pool's; a dead one may be replaced in this list.
    """

    def __init__(self, workers: list[AnyBusy]) -> None:
        self._workers = workers
        self._failed_starts = 0

    def _begun(self, worker: AnyBusy) -> None:
        """Notes that a worker has begun to work."""
        worker.ready, self._failed_starts = True, 0

    def _replace(self, dead: AnyBusy, reason: HostError | None) -> None:
        """Gives a dead worker a successor, or gives it up.

        Args:
            dead: The worker.
            reason: Why workers like it end before they can begin; None where that is no fault of
                theirs.

        Raises:
            HostError: The reason, where no other worker has begun either.
        """
        if reason is not None and not dead.ready:
            self._failed_starts += 1
            if self._failed_starts >= STARTS:
                if not any(one.ready for one in self._workers):
                    raise reason
                self._workers.remove(dead)
                left = counted(len(self._workers), "worker")
                _log.warning("%s The run goes on with %s.", reason, left)
                return
        dead.ready = False
        self._start(dead)

    def _start(self, worker: AnyBusy) -> None:
        """Starts what does a worker's work."""
        raise NotImplementedError

    def has_room(self, *, by_itself: bool) -> bool:
        """As in `Pool`."""
        return with_room(self._workers, by_itself=by_itself) is not None

    def _taking(self, task: Task, *, by_itself: bool) -> AnyBusy:
        """Returns the worker that a task is noted for."""
        worker = with_room(self._workers, by_itself=by_itself)
        assert worker is not None, "`has_room` comes first"
        worker.take(task.number, by_itself=by_itself)
        return worker
