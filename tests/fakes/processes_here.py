"""The processes of this computer, as Linux tells of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

SOON = 600.0
"""Seconds in which whatever has to come comes, on the busiest machine."""


def children_of(process: int) -> list[int]:
    """The processes that a process has started, and that these have."""
    found = [process]
    everything = _everything()
    for one in found:
        found += [child for child, (_, parent, *_) in everything.items() if int(parent) == one]
    return found[1:]


def of_session(process: int) -> list[int]:
    """The processes that still run in a session, which is called after what has begun it."""
    everything = _everything().items()
    return [one for one, (state, _, _, of, *_) in everything if int(of) == process and state != "Z"]


def _everything() -> dict[int, list[str]]:
    """What Linux tells of each process: state, parent, group, session and more."""
    found = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            found[int(status.parent.name)] = status.read_text().rpartition(")")[2].split()
    return found


def is_called(process: int, *names: str) -> bool:
    """Whether a process' program, or one of its arguments, begins with one of some names."""
    try:
        command = Path(f"/proc/{process}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return False
    program = Path(command.partition(" ")[0]).name
    return any(program.startswith(name) or f" {name}" in command for name in names)


def memory_of(process: int) -> int:
    """What a process holds of its own, in bytes; 0 where it has ended."""
    try:
        text = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0
    return (
        sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("RssAnon")) * 1024
    )


def wait_for(done: Callable[[], bool]) -> None:
    end = time.monotonic() + SOON
    while not done():
        assert time.monotonic() < end, "it does not come"
        time.sleep(0.2)
