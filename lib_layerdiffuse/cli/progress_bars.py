"""Progress bars on the console, where there is one."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .lines import say_line


class Bars:
    """One bar at a time on stderr; a stage's bar stays when the next one begins.

    Args:
        shown: Whether there are any.
    """

    def __init__(self, shown: bool) -> None:
        self._shown = shown
        self._bar: Any = None
        self._name = ""

    def stage(self, name: str, done: int, total: int) -> bool:
        """Shows how far a stage is; True, since nobody interrupts through a bar."""
        self._show(name, done, total, unit="it", scaled=False)
        return True

    def download(self, name: str, done: int, total: int | None) -> None:
        """Shows how far a download is, in bytes."""
        self._show(name, done, total, unit="B", scaled=True)

    def note(self, text: str) -> None:
        """Writes a line between the bars."""
        self.close()
        say_line(text)

    def close(self) -> None:
        """Ends the current bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _show(self, name: str, done: int, total: int | None, *, unit: str, scaled: bool) -> None:
        if not self._shown:
            return
        if self._bar is None or self._name != name or done < self._bar.n:
            from tqdm import tqdm

            self.close()
            self._name = name
            # Consoles that do not know their width count as 80 columns, not as none.
            columns = shutil.get_terminal_size().columns
            self._bar = tqdm(desc=name, total=total, unit=unit, unit_scale=scaled, ncols=columns)
        self._bar.total = total
        self._bar.update(done - self._bar.n)


@contextmanager
def bars_of(args: argparse.Namespace) -> Iterator[Bars]:
    """Gives the bars that the options and the console allow; ends them with the block."""
    bars = Bars(sys.stderr.isatty() and not (args.json or args.quiet))
    try:
        yield bars
    finally:
        bars.close()
