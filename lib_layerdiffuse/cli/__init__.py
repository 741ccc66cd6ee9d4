"""The command `layerdiffuse`: methods, weight files and transparency without a WebUI.

Only what a command needs is imported: `methods` starts without torch.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence

from .. import __version__
from ..errors import LayerDiffuseError
from . import chain, demo, eval_tiny, generate, methods, studio, transparency, weights
from .parsing import Parser

_ERROR, _INTERRUPTED, _CLOSED = 2, 130, 141
_EPILOG = (
    "Exit status: 0 done, 1 a weight file is bad (weights verify), 2 an error, told in one line, "
    "130 interrupted."
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit status, as the help tells it.

    Args:
        argv: The arguments after the command's name; those of the process if None.
    """
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")  # not every console can show every path
    try:
        args = _parser().parse_args(argv)
        status: int = args.run(args)
        sys.stdout.flush()
    except LayerDiffuseError as error:
        return _fail(str(error))
    except BrokenPipeError:  # the reader, `head` for instance, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _CLOSED
    except OSError as error:
        return _fail(f"Expected to read and write files, got: {error}.")
    except KeyboardInterrupt:
        return _fail("interrupted", _INTERRUPTED)
    return status


def _fail(text: str, status: int = _ERROR) -> int:
    print("layerdiffuse:", " ".join(text.split()), file=sys.stderr)
    return status


def _parser() -> Parser:
    about = "Methods, weight files and transparency of LayerDiffuse, without a WebUI."
    parser = Parser("layerdiffuse", description=about, epilog=_EPILOG)
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for module in (methods, weights, transparency, generate, chain, studio, demo, eval_tiny):
        module.add_to(commands)
    return parser
