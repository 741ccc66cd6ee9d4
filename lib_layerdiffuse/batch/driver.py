"""The driver: hands out what is missing, and decides what becomes of rows that end in an error."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

from ..errors import OutputError, WorkerDiedError
from .ledger import Ledger
from .places import DONE, Place, read_row, row_file
from .pools import Gone, Pool, Task
from .requests import Request, chunks
from .results import write_failure
from .worker import Answer, Told

OnRow = Callable[[Mapping[str, Any]], None]
"""Called with what is told of a row."""
_DEATHS = 3
"""Workers that may die of a chunk before its rows run alone. The first may have died of another."""
_POLL = 0.5


@dataclass
class _Work:
    """Rows that run together, and what has happened to them so far."""

    rows: Sequence[Request]
    wanted: set[str]
    tries: int = 0
    deaths: int = 0

    @property
    def alone(self) -> bool:
        return len(self.rows) == 1


def works(requests: Sequence[Request], ledger: Ledger, most: int) -> list[_Work]:
    """Returns what is to be done of the rows of a file.

    Args:
        requests: All of them.
        ledger: Knows which are done.
        most: How many sets run together.
    """
    found: list[_Work] = []
    for rows in chunks(requests, most):
        missing = [one for one in rows if one.id not in ledger.done]
        if any(ledger.failed(one.id) for one in rows):  # Then the others have run alone, too.
            found += [_Work([one], {one.id}) for one in missing]
        elif missing:
            found.append(_Work(rows, {one.id for one in missing}))
    return found


class Driver:
    """Runs what is missing until each row is done or has failed for good.

    Args:
        place: Where results are kept.
        ledger: Its files.
        pool: The workers.
        tries: How often a row runs alone before it has failed for good.
        on_row: Told of each row.
    """

    def __init__(
        self, place: Place, ledger: Ledger, pool: Pool, *, tries: int, on_row: OnRow
    ) -> None:
        self._place, self._ledger, self._pool = place, ledger, pool
        self._tries, self._on_row = tries, on_row
        self._waiting: deque[_Work] = deque()
        self._suspects: deque[_Work] = deque()
        self._running: dict[int, _Work] = {}
        self._numbers = count()

    def run(self, todo: Iterable[_Work]) -> None:
        """Does it.

        Raises:
            OutputError: Results cannot be written; what is done stays done.
            HostError: No worker can be started.
        """
        self._waiting.extend(todo)
        while self._waiting or self._suspects or self._running:
            self._hand_out()
            for number, answer in self._pool.answers(_POLL):
                work = self._running.pop(number)
                if isinstance(answer, Gone):
                    self._end(work, answer)
                else:
                    self._take(work, answer)

    def _hand_out(self) -> None:
        # What a worker may have died of has one by itself, so that nothing else dies with it.
        while self._suspects and self._pool.has_room(by_itself=True):
            self._submit(self._suspects.popleft(), by_itself=True)
        while self._waiting and not self._suspects and self._pool.has_room(by_itself=False):
            self._submit(self._waiting.popleft(), by_itself=False)

    def _submit(self, work: _Work, *, by_itself: bool) -> None:
        number = next(self._numbers)
        self._running[number] = work
        task = Task(number, work.rows, frozenset(work.wanted), work.tries + 1)
        self._pool.submit(task, by_itself=by_itself)

    def _take(self, work: _Work, answer: Answer) -> None:
        for told in answer.done:
            self._add(told)
        if answer.stop is not None:
            raise OutputError(answer.stop)
        for row in work.rows:
            error = answer.errors.get(row.id)
            if error is None:
                continue
            if work.alone:
                self._tried(work, error, self._waiting)
            else:  # Memory may suffice for one, and one bad row must not take the others along.
                self._waiting.append(_Work([row], {row.id}))

    def _end(self, work: _Work, reason: Gone) -> None:
        """Does what is still to be done of rows whose worker is gone."""
        for row in sorted(work.wanted):
            if self._place.has(row_file(row, DONE)):  # It was written before.
                work.wanted.discard(row)
                self._add(read_row(self._place, row))
        if work.wanted and reason is Gone.LOST:
            self._waiting.appendleft(work)
        elif work.wanted:
            self._died(work)

    def _died(self, work: _Work) -> None:
        work.deaths += 1
        if not work.alone and work.deaths < _DEATHS:
            self._suspects.append(work)
        elif not work.alone:
            self._suspects += [_Work([row], {row.id}) for row in work.rows if row.id in work.wanted]
        elif work.deaths == 1 and not work.tries:  # It may have died of another row.
            self._suspects.append(work)
        else:
            error = WorkerDiedError(
                "The process that worked on the row ended without an answer.",
                "Choose a smaller size; the system may have run out of memory.",
            )
            self._tried(work, error.as_dict(), self._suspects)

    def _tried(self, work: _Work, error: Told, again: deque[_Work]) -> None:
        work.tries += 1
        (row,) = work.rows
        if work.tries < self._tries:
            again.append(work)
        else:
            self._add(write_failure(self._place, row, error, work.tries))

    def _add(self, told: Told) -> None:
        self._ledger.add(told)
        self._on_row(told)
