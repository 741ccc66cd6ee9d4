"""`layerdiffuse studio`: a page in the browser that makes layers without a WebUI."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import MissingCapabilityError
from . import job_options as options
from .described import choice_of, models_of
from .parsing import add_command, path

if TYPE_CHECKING:
    from .parsing import Commands

_PORTS = (1, 65535)


def add_to(commands: Commands) -> None:
    """Adds the command."""
    parser = add_command(commands, "studio", _run, "open a page in the browser to make layers")
    add = parser.add_argument
    add(
        "--address",
        default="127.0.0.1",
        metavar="HOST",
        help="where to listen (default: %(default)s, for this computer only); on any other address "
        "the page asks for a password",
    )
    add(
        "--auth",
        metavar="USER:PASSWORD",
        help="what the page asks for; the environment variable LAYERDIFFUSE_STUDIO_AUTH says the "
        "same, and other users of this computer do not see it",
    )
    add(
        "--checkpoints",
        type=path,
        metavar="DIR",
        help="offer the checkpoints in this folder, and no others beside --checkpoint (default: "
        "any path may be typed; on an address other than this computer's none)",
    )
    add(
        "--port",
        type=options.number(int, *_PORTS),
        metavar="N",
        help="(default: the first that is free from 7860 on)",
    )
    add("--no-browser", action="store_true", help="only print the address")
    add("--out", type=path, default=Path("out"), metavar="DIR", help="(default: %(default)s)")
    options.add_models(parser)


def _run(args: argparse.Namespace) -> int:
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    try:
        from ..studio import studio_page as studio
    except ImportError as error:
        raise MissingCapabilityError(
            f"The studio needs packages that are not installed: {error}.",
            "Run `pip install layerdiffuse[standalone]`.",
        ) from error
    from ..studio.access import is_local, login
    from ..studio.checkpoints import Checkpoints
    from ..studio.workbench import Workbench

    asked = login(args.address, args.auth)
    if args.checkpoints or is_local(args.address):
        checkpoints = Checkpoints(args.checkpoint, args.checkpoints)
    else:
        checkpoints = Checkpoints.only(args.checkpoint)
    bench = Workbench(models_of(args, None), choice_of(args), args.out, checkpoints)
    opens = not args.no_browser
    studio.serve(bench, address=args.address, port=args.port, opens=opens, login=asked)
    return 0
