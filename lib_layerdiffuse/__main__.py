"""`python -m lib_layerdiffuse` and the command `layerdiffuse`: the command line as a process."""

from __future__ import annotations

import _thread
import signal
import sys
import threading
from types import FrameType
from typing import Any

_INTERRUPTED = 130
_SOON = 0.02


def run() -> int:
    """Runs the command line and returns its exit status: 130 after an interrupt at any moment.

    Libraries turn an interrupt into errors of theirs, or lose it while they are imported; what
    ends in an error after one is an interrupt. One that comes while an object is cleared away is
    lost in Python itself, and so comes again.
    """
    interrupted: list[int] = []

    def interrupt(number: int, _frame: FrameType | None) -> None:
        interrupted.append(number)
        raise KeyboardInterrupt

    report = sys.unraisablehook

    def again(lost: Any) -> None:
        if isinstance(lost.exc_value, KeyboardInterrupt):  # Here it would be lost once more.
            threading.Timer(_SOON, _thread.interrupt_main).start()
        else:
            report(lost)

    try:
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, interrupt)
            sys.unraisablehook = again
        from .cli import main

        status = main(interrupts=interrupted)
    except BaseException as error:
        _ignore_interrupts()
        if not interrupted and not isinstance(error, KeyboardInterrupt):
            raise
        print("layerdiffuse: interrupted", file=sys.stderr)
        return _INTERRUPTED
    _ignore_interrupts()
    return status


def _ignore_interrupts() -> None:
    """The end of the process is near and shall be quiet."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


if __name__ == "__main__":
    sys.exit(run())
