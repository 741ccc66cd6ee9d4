"""One run from beginning to end: rows checked, workers started, what is missing made."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, NoReturn

from ..errors import LayerDiffuseError, SettingsError
from ..files.locks import file_lock
from .driver import Driver, OnRow, works
from .figures import Tally
from .ledger import Ledger, told_rows
from .parquet import TABLE, write_table
from .places import LocalPlace, Place
from .pools import Pool
from .requests import Checked, Request
from .shards import write_shards
from .sheet import SHEET, contact_sheet

PLAN, LOCK = "plan.json", ".lock"


@dataclass(frozen=True)
class Rules:
    """How rows are run.

    Attributes:
        most: How many sets run together.
        tries: How often a row runs alone before it has failed for good.
        again: Whether rows that failed before are tried again.
        shards: Whether WebDataset shards are made of the files in the end.
        parquet: Whether a table is made of what is told of the rows in the end.
    """

    most: int
    tries: int
    again: bool
    shards: bool = False
    parquet: bool = False


@contextmanager
def held(place: Place) -> Iterator[None]:
    """Keeps other runs from a folder of results; cleared of what killed runs have left.

    Raises:
        SettingsError: Another run is at work there, or nothing can be written there.
    """
    if not isinstance(place, LocalPlace):  # Stores know no locks.
        place.prepare()
        yield
        return
    with suppress(OSError):
        place.folder.mkdir(parents=True, exist_ok=True)

    def waiting() -> NoReturn:
        raise SettingsError(
            f"Another run writes to {place.address}.", "Wait for its end, or choose another folder."
        )

    with ExitStack() as until_end:
        with suppress(OSError):  # `prepare` says what is wrong with the folder.
            until_end.enter_context(file_lock(place.folder / LOCK, waiting))
        place.prepare()
        yield


def run(
    place: Place,
    checked: Checked,
    rules: Rules,
    pool: Callable[[], Pool],
    on_row: Callable[[Tally], OnRow],
) -> Tally:
    """Returns what became of all rows of a job file; the caller holds the place.

    Args:
        place: Where results are kept.
        checked: The job file.
        rules: How rows are run.
        pool: Starts the workers, where there is something to do.
        on_row: Gets the count of what is done already, and returns what is told of each row.

    Raises:
        OutputError: Results cannot be written; what is done stays done.
        HostError: No worker can be started.
    """
    ledger = Ledger(place, again=rules.again)
    try:
        _write_plan(place, checked)
        tally = tally_of(checked.requests, ledger.rows)
        tell = on_row(tally)

        def count(told: Mapping[str, Any]) -> None:
            tally.add(told)
            tell(told)

        todo = works(checked.requests, ledger, rules.most)
        if todo:
            place.remove(TABLE)  # It would tell of fewer rows than there are.
            workers = pool()
            try:
                Driver(place, ledger, workers, tries=rules.tries, on_row=count).run(todo)
            finally:
                workers.close()
                place.clear()
    except BaseException:
        with suppress(LayerDiffuseError, OSError):
            ledger.close()
        raise
    ledger.close()
    told = [ledger.rows[one.id] for one in checked.requests]
    place.put(SHEET, contact_sheet(told, tally))
    if rules.parquet:
        write_table(place, ledger.rows.values())
    if rules.shards:
        write_shards(place, told)
    return tally


def tally_of(requests: Sequence[Request], rows: Mapping[str, Mapping[str, Any]]) -> Tally:
    """Returns what became of rows so far."""
    there = (rows[one.id] for one in requests if one.id in rows)
    return Tally(len(requests)).add_all(there)


def _write_plan(place: Place, checked: Checked) -> None:
    plan = {
        "rows": [one.id for one in checked.requests],
        "bad": [one.as_dict() for one in checked.bad],
        "repeated": checked.repeated,
    }
    place.put(PLAN, json.dumps(plan).encode())


@dataclass(frozen=True)
class Status:
    """How far a run is.

    Attributes:
        tally: What became of its rows.
        bad: How many lines of its job file were left out.
        running: Whether it is at work; None where that cannot be known.
    """

    tally: Tally
    bad: int
    running: bool | None

    def as_dict(self) -> dict[str, Any]:
        """Returns it for JSON."""
        return {**self.tally.as_dict(), "bad": self.bad, "running": self.running}


def status_of(place: Place) -> Status:
    """Returns how far a run is; changes nothing.

    Raises:
        SettingsError: There is no run in the folder.
    """
    if not place.has(PLAN):
        said = f"There is no run in {place.address}."
        raise SettingsError(said, "Name the folder of --out.")
    plan = json.loads(place.get(PLAN))
    told, done = told_rows(place), place.done()
    rows = [row for row in plan["rows"] if row in done]
    tally = Tally(len(plan["rows"])).add_all(told[row] for row in rows if row in told)
    tally.done += sum(row not in told for row in rows)  # Written, and not yet told of.
    return Status(tally, len(plan["bad"]), _is_held(place))


def _is_held(place: Place) -> bool | None:
    if not isinstance(place, LocalPlace):
        return None

    def waiting() -> NoReturn:
        raise BlockingIOError

    try:
        with file_lock(place.folder / LOCK, waiting):
            return False
    except OSError:
        return True
