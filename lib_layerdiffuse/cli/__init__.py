"""The command `layerdiffuse`: methods, weight files and transparency without a WebUI.

Only what a command needs is imported: `methods` starts without torch.
"""

from __future__ import annotations

import io
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from .. import __version__
from ..errors import LayerDiffuseError
from .lines import leave_nothing, say_line
from .parsing import Parser, check_texts

_ERROR, _INTERRUPTED, _CLOSED = 2, 130, 141
_EPILOG = (
    "Exit status: 0 done, 1 a weight file is bad (weights verify) or a row failed (batch), 2 an "
    "error, told in one line, 130 interrupted."
)


def main(argv: Sequence[str] | None = None, *, interrupts: Sequence[int] = ()) -> int:
    """Runs one command and returns its exit status, as the help tells it.

    Args:
        argv: The arguments after the command's name; those of the process if None.
        interrupts: Holds something once the user has interrupted the command: what ends in an error
            then, such as a file that was not read to its end, is no fault of the file.
    """
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")  # not every console can show every path
    try:
        args = _parser().parse_args(argv)
        check_texts(args)
        with _warnings(quiet=getattr(args, "quiet", False)):
            status: int = args.run(args)
        sys.stdout.flush()
    except LayerDiffuseError as error:
        if interrupts:
            return _fail("interrupted", _INTERRUPTED)
        return _fail(str(error))
    except BrokenPipeError:  # the reader, `head` for instance, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _CLOSED
    except OSError as error:
        if interrupts:
            return _fail("interrupted", _INTERRUPTED)
        return _fail(f"A file could not be read or written: {error}.")
    except MemoryError:
        return _fail("The memory is full. Close other programs, or choose a smaller image.")
    except KeyboardInterrupt:
        return _fail("interrupted", _INTERRUPTED)
    return status


class _Notes(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        say_line(record.getMessage())


@contextmanager
def _warnings(*, quiet: bool) -> Iterator[None]:
    """Writes what our log warns of as the command's own notes, unless none are wanted."""
    handler, log = _Notes(), logging.getLogger(__package__.partition(".")[0])
    handler.setLevel(logging.ERROR if quiet else logging.WARNING)
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)


def _fail(text: str, status: int = _ERROR) -> int:
    say_line(text)
    leave_nothing()
    return status


def _parser() -> Parser:
    # Imported here, so that an interrupt meanwhile is one, too.
    from . import (
        batch_command,
        bench_alpha_command,
        chain_command,
        codec_command,
        demo_command,
        eval_tiny_command,
        generate_command,
        methods_command,
        studio_command,
        weights_command,
    )

    about = "Methods, weight files and transparency of LayerDiffuse, without a WebUI."
    parser = Parser("layerdiffuse", description=about, epilog=_EPILOG)
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in (
        methods_command,
        weights_command,
        codec_command,
        generate_command,
        chain_command,
        batch_command,
        studio_command,
        demo_command,
        eval_tiny_command,
        bench_alpha_command,
    ):
        command.add_to(commands)
    return parser
