"""What is told of all rows in one file, `results.jsonl`, and of those that failed for good.

The rows' own `row.json` decide what is done: from them both files are made good after a crash.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping
from typing import Any, BinaryIO

from ..errors import OutputError
from .places import DONE, LocalPlace, Place, read_row, row_file
from .results import line_of

RESULTS, FAILED = "results.jsonl", "failed.jsonl"
_KEPT_BACK = 100
"""Lines that a place takes in one go where nothing can be added to a file."""


def told_rows(place: Place) -> dict[str, dict[str, Any]]:
    """Returns what `results.jsonl` tells of each row, by id; a line that is cut off is left out."""
    if not place.has(RESULTS):
        return {}
    found: dict[str, dict[str, Any]] = {}
    for line in place.get(RESULTS).split(b"\n"):
        try:
            row = json.loads(line)
            found[row["id"]] = row
        except (ValueError, TypeError, KeyError):
            continue
    return found


class Ledger:
    """The two files of a run; one process writes them.

    Args:
        place: Where the rows are.
        again: Whether the rows that failed are to be tried again.

    Raises:
        OutputError: Nothing can be written there.
    """

    def __init__(self, place: Place, *, again: bool = False) -> None:
        self._place = place
        there = place.done()
        before = told_rows(place)
        self.rows = {row: before.get(row) or read_row(place, row) for row in sorted(there)}
        if again:
            for row in [row for row, told in self.rows.items() if told["error"]]:
                place.remove(row_file(row, DONE))
                del self.rows[row]
        self._waiting = 0
        self._file: BinaryIO | None = None
        self._write_all()
        self._write_failed()
        if isinstance(place, LocalPlace):
            self._file = (place.folder / RESULTS).open("ab")

    @property
    def done(self) -> Collection[str]:
        """The ids of the rows that are done or have failed for good."""
        return self.rows.keys()

    def failed(self, row: str) -> bool:
        """Whether a row has failed for good."""
        return row in self.rows and bool(self.rows[row]["error"])

    def add(self, told: Mapping[str, Any]) -> None:
        """Adds what is told of a row.

        Raises:
            OutputError: It cannot be written.
        """
        self.rows[told["id"]] = dict(told)
        if self._file is None:
            self._waiting += 1
            if self._waiting >= _KEPT_BACK:
                self._write_all()
            return
        try:
            self._file.write(line_of(told))
            self._file.flush()
        except OSError as error:
            said = f"{RESULTS} could not be written: {error.strerror or error}."
            raise OutputError(said, "Free some space on that disk, and run it again.") from error

    def close(self) -> None:
        """Writes what is not written yet.

        Raises:
            OutputError: It cannot be written.
        """
        if self._file is None:
            self._write_all()
        else:
            try:
                os.fsync(self._file.fileno())
            finally:
                self._file.close()
        self._write_failed()

    def _write_all(self) -> None:
        self._waiting = 0
        self._place.put(RESULTS, b"".join(line_of(row) for row in self.rows.values()))

    def _write_failed(self) -> None:
        lines = [line_of(row) for row in self.rows.values() if row["error"]]
        if lines:
            self._place.put(FAILED, b"".join(lines))
        else:
            self._place.remove(FAILED)
