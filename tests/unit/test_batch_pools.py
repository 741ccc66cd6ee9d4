"""Which worker gets the next task, and which one is given up."""

from __future__ import annotations

import pytest

from lib_layerdiffuse.batch.pools import STARTS, Busy, Crew, with_room
from lib_layerdiffuse.errors import HostError


def test_a_worker_gets_no_task_before_it_has_begun():
    busy, starting = Busy(), Busy()
    busy.ready = True
    busy.take(1, by_itself=False)
    assert with_room([busy, starting], by_itself=False) is busy
    assert with_room([busy, starting], by_itself=True) is None
    starting.ready = True
    assert with_room([busy, starting], by_itself=False) is starting


class Starts(Crew[Busy]):
    """Counts how often its workers are started."""

    def __init__(self, count: int) -> None:
        super().__init__([Busy() for _ in range(count)])
        self.count = 0

    def _start(self, worker):
        self.count += 1


class TestStarts:
    CANNOT = HostError("None can.", "Mend it.")

    def test_where_no_worker_can_begin_the_run_ends(self):
        crew = Starts(2)
        for worker in crew._workers:
            crew._replace(worker, self.CANNOT)
        with pytest.raises(HostError, match="None can"):
            crew._replace(crew._workers[0], self.CANNOT)
        assert crew.count == 2

    def test_one_that_begins_shows_that_they_can(self):
        crew = Starts(2)
        for _ in range(2 * STARTS):
            crew._replace(crew._workers[0], self.CANNOT)
            crew._begun(crew._workers[0])
            crew._workers[0].ready = False
        assert crew.count == 2 * STARTS

    def test_who_works_goes_on_without_one_that_cannot_begin(self, caplog):
        crew = Starts(2)
        works, other = crew._workers
        crew._begun(works)
        for _ in range(STARTS):
            crew._replace(other, self.CANNOT)
        assert crew._workers == [works]
        assert "None can. Mend it. The run goes on with 1 worker." in caplog.text
        crew._replace(works, self.CANNOT)  # It has begun, so that it died of its work.
        assert (crew._workers, works.ready, crew.count) == ([works], False, STARTS)
        with pytest.raises(HostError):
            crew._replace(works, self.CANNOT)

    def test_what_is_no_fault_of_workers_is_not_held_against_them(self):
        crew = Starts(1)
        for _ in range(2 * STARTS):
            crew._replace(crew._workers[0], None)
        assert crew.count == 2 * STARTS
