"""What is told to people: one thing a line."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TextIO

CLEAR = "\r\x1b[K"
"""Takes what a terminal's line shows for the moment away."""
_LONGEST = 900
"""Letters of a line; what is typed may be of any length."""


def in_a_line(text: str) -> str:
    """Returns a text as one line, its middle left out where it is long.

    The beginning says what is wrong, the end what to do.
    """
    line = " ".join(text.split())
    if len(line) <= _LONGEST:
        return line
    return f"{line[: _LONGEST // 2]} … {line[-_LONGEST // 2 :]}"


def say(text: str, end: str = "\n") -> None:
    """Writes to the terminal or the log that people read.

    Where that cannot be written, a log on a full disk for instance, nothing more is told, and the
    command goes on: its status tells how it ended.
    """
    try:
        print(text, end=end, file=sys.stderr, flush=True)
    except OSError:
        _throw_away(sys.stderr)


def say_line(text: str) -> None:
    """Writes a line of the command's own, in the place of what a terminal shows for the moment."""
    say(f"{CLEAR if sys.stderr.isatty() else ''}layerdiffuse: {in_a_line(text)}")


def leave_nothing() -> None:
    """Writes what waits to be written, or throws it away where it cannot be.

    For a command that ends with an error: Python would end with a status of its own.
    """
    try:
        sys.stdout.flush()
    except OSError:
        _throw_away(sys.stdout)


def _throw_away(stream: TextIO) -> None:
    """Has nobody read what is and will be written to a stream."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
