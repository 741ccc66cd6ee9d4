"""What is told of a run of many rows while it runs: one line on a terminal, lines in a log."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .lines import in_a_line, say

if TYPE_CHECKING:
    from ..batch.driver import OnRow
    from ..batch.figures import Tally

_EVERY, _EVERY_IN_LOG = 0.25, 30.0
_CLEAR = "\r\x1b[K"


class Progress:
    """Tells of rows as they are done.

    Args:
        quiet: Whether nothing is told to people.
        as_json: Whether each row is a line of JSON on stdout, too.
    """

    def __init__(self, *, quiet: bool, as_json: bool) -> None:
        self._quiet, self._json = quiet, as_json
        self._on_terminal = sys.stderr.isatty()
        self._last = 0.0

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        """Takes what is true for the moment off the terminal."""
        say(self._clear, end="")

    @property
    def _clear(self) -> str:
        return _CLEAR if self._on_terminal else ""

    def line(self, text: str) -> None:
        """Writes a line, also where people want no notes."""
        say(f"{self._clear}layerdiffuse: {in_a_line(text)}")

    def note(self, text: str) -> None:
        """Writes a line unless people want none."""
        if not self._quiet:
            self.line(text)

    def passing(self, text: str) -> None:
        """Shows on a terminal what is true for the moment, in one line."""
        if self._on_terminal and not self._quiet:
            columns = shutil.get_terminal_size().columns - 1  # A full line would begin another one.
            shown = text if len(text) <= columns else f"{text[: columns - 1]}…"
            say(f"{_CLEAR}{shown}", end="")

    def begin(self, tally: Tally) -> OnRow:
        """Returns what is called with what is told of each row, once the tally counts it."""
        begun, before = time.monotonic(), tally.total - tally.left
        self._last = begun
        self.passing(tally.sentence())

        def tell(told: Mapping[str, Any]) -> None:
            if self._json:
                print(json.dumps(told, ensure_ascii=False), flush=True)
            if told["error"]:
                error = told["error"]
                self.note(f"line {told['line']} failed: {error['message']} {error['hint']}")
            now = time.monotonic()
            if now - self._last >= (_EVERY if self._on_terminal else _EVERY_IN_LOG):
                self._last = now
                rate = (tally.total - tally.left - before) / max(now - begun, 1e-6)
                line = tally.sentence(rate)
                (self.passing if self._on_terminal else self.note)(line)

        return tell
