"""What is told of a run of many rows while it runs: one line on a terminal, lines in a log."""

from __future__ import annotations

import io
import json
import logging
import shutil
import sys
import time
from collections.abc import Mapping
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Any

from .lines import CLEAR, say, say_line

if TYPE_CHECKING:
    from ..batch.driver import OnRow
    from ..batch.figures import Tally

_log = logging.getLogger(__name__)
_EVERY, _EVERY_IN_LOG = 0.25, 30.0


class _ToOurLog(io.TextIOBase):
    """Notes what libraries print in our log, as information."""

    def write(self, text: str) -> int:
        if text.strip():
            _log.info("%s", text.strip())
        return len(text)


class Progress:
    """Tells of rows as they are done. While it is entered, nothing else is written to stdout.

    Args:
        quiet: Whether nothing is told to people.
        as_json: Whether each row is a line of JSON on stdout, too.
    """

    def __init__(self, *, quiet: bool, as_json: bool) -> None:
        self._quiet, self._json = quiet, as_json
        self._on_terminal = sys.stderr.isatty()
        self._last = 0.0
        self._stdout, self._kept_off = sys.stdout, redirect_stdout(_ToOurLog())

    def __enter__(self) -> Progress:
        self._kept_off.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        """Takes what is true for the moment off the terminal."""
        self._kept_off.__exit__(*error)
        if self._on_terminal:
            say(CLEAR, end="")

    def line(self, text: str) -> None:
        """Writes a line, also where people want no notes."""
        say_line(text)

    def note(self, text: str) -> None:
        """Writes a line unless people want none."""
        if not self._quiet:
            self.line(text)

    def json(self, told: Mapping[str, Any]) -> None:
        """Writes a line of JSON on stdout, where programs want them."""
        if self._json:
            print(json.dumps(told, ensure_ascii=False), file=self._stdout, flush=True)

    def passing(self, text: str) -> None:
        """Shows on a terminal what is true for the moment, in one line."""
        if self._on_terminal and not self._quiet:
            columns = shutil.get_terminal_size().columns - 1  # A full line would begin another one.
            shown = text if len(text) <= columns else f"{text[: columns - 1]}…"
            say(f"{CLEAR}{shown}", end="")

    def begin(self, tally: Tally) -> OnRow:
        """Returns what is called with what is told of each row, once the tally counts it."""
        begun, before = time.monotonic(), tally.total - tally.left
        self._last = begun
        self.passing(tally.sentence())

        def tell(told: Mapping[str, Any]) -> None:
            self.json(told)
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
