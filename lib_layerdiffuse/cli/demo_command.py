"""`layerdiffuse demo`: layers of every kind from the tiny family, with a page that shows them."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from .lines import say
from .parsing import add_command, path
from .progress_bars import bars_of

if TYPE_CHECKING:
    from ..weights.store import WeightStore
    from .parsing import Commands


def add_to(commands: Commands) -> None:
    """Adds the command."""
    parser = add_command(commands, "demo", _run, "draw layers of every kind with the tiny family")
    add = parser.add_argument
    add("--out", type=path, default=Path("out", "demo"), metavar="DIR", help="(default: out/demo)")
    add("--quiet", action="store_true", help="no progress bars and no notes")
    parser.set_defaults(json=False)


def _run(args: argparse.Namespace) -> int:
    os.environ["HF_HUB_OFFLINE"] = "1"  # Everything is here; nothing may be fetched.
    from ..demo.run_demo import run_demo
    from ..files.whole_files import check_folder
    from ..standalone.models import Models

    check_folder(args.out)
    with bars_of(args) as bars:

        def on_part(number: int, parts: int, title: str) -> None:
            bars.close()
            if not args.quiet:
                say(f"{number}/{parts} {title}")

        run_demo(args.out, Models(_no_store), on_part=on_part, on_progress=bars.stage)
    folder = args.out.resolve()
    print(f"Images: {folder}")
    print(f"Contact sheet: {folder / 'sheet.png'}")
    print(f"Open in a browser: {(folder / 'index.html').as_uri()}")
    return 0


def _no_store() -> WeightStore:
    raise AssertionError("the tiny family has its own files")
