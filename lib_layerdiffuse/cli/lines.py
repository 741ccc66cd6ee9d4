"""What is told to people: one thing a line."""

from __future__ import annotations

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
