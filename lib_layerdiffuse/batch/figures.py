"""What a person is told of a run: how far it is, how fast, and what became of its rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..imaging.coverage import Verdict


@dataclass
class Tally:
    """Rows by what became of them.

    Attributes:
        total: All rows of the run.
        done: Those with files.
        failed: Those that have failed for good.
        opaque: Those of the done ones with a foreground that is not transparent.
    """

    total: int
    done: int = 0
    failed: int = 0
    opaque: int = 0

    def add(self, told: Mapping[str, Any]) -> None:
        """Counts a row."""
        if told["error"]:
            self.failed += 1
            return
        self.done += 1
        self.opaque += worst_verdict(told) not in (None, Verdict.TRANSPARENT.value)

    def add_all(self, rows: Iterable[Mapping[str, Any]]) -> Tally:
        """Counts rows, and returns itself."""
        for told in rows:
            self.add(told)
        return self

    @property
    def left(self) -> int:
        """How many rows are neither done nor failed."""
        return self.total - self.done - self.failed

    def as_dict(self) -> dict[str, int]:
        """Returns it for JSON."""
        return {**vars(self), "left": self.left}

    def sentence(self, rate: float | None = None) -> str:
        """Returns it as a line.

        Args:
            rate: Rows in a second; None where that is not known.
        """
        parts = [f"{self.done + self.failed} of {counted(self.total, 'row')}"]
        if rate and self.left:
            parts += [_rate(rate), f"{_duration(self.left / rate)} left"]
        parts.append(f"{self.failed} failed")
        if self.opaque:
            parts.append(f"{self.opaque} not transparent")
        return ", ".join(parts)


def counted(number: int, noun: str) -> str:
    """Returns how many of something there are, in words."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def left_out(bad: int) -> str:
    """Returns what is added to a sentence where lines of the job file cannot be run."""
    return f", {counted(bad, 'line')} left out" if bad else ""


def worst_verdict(told: Mapping[str, Any]) -> str | None:
    """Returns the verdict on a row's foregrounds: the first that is not transparent, if one is.

    None where there is no foreground.
    """
    verdicts = [str(one["alpha"]["verdict"]) for one in told["files"] if "alpha" in one]
    odd = [verdict for verdict in verdicts if verdict != Verdict.TRANSPARENT.value]
    return next(iter([*odd, *verdicts]), None)


def _rate(rate: float) -> str:
    return f"{rate:.1f} a second" if rate >= 1 else f"{rate * 60:.1f} a minute"


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{max(1, round(seconds))} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:.1f} h"
