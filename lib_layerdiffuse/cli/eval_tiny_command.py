"""`layerdiffuse eval-tiny`: the figures of the tiny family's model card."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from .parsing import add_command
from .progress_bars import bars_of

if TYPE_CHECKING:
    from ..demo.figures import Figure
    from .parsing import Commands


def add_to(commands: Commands) -> None:
    """Adds the command."""
    parser = add_command(commands, "eval-tiny", _run, "measure how well the tiny family draws")
    parser.add_argument("parts", nargs="*", metavar="PART", help="codecs and methods (all of them)")
    parser.add_argument("--count", type=int, default=200, help="scenes (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print lines of JSON")
    parser.add_argument("--quiet", action="store_true", help="show no progress")


def _run(args: argparse.Namespace) -> int:
    from .. import tiny
    from ..demo import evaluation as eval_tiny
    from ..standalone.models import Models

    models = Models(tiny.layer_store)
    if not args.json:
        print("| part | figure | value | goal | control |\n|---|---|---|---|---|", flush=True)
    missed = 0
    with bars_of(args) as bars:
        parts = args.parts or eval_tiny.PARTS
        for figure in eval_tiny.evaluate(parts, models, args.count, bars.stage):
            print(json.dumps(figure.as_dict()) if args.json else _row(figure), flush=True)
            missed += not figure.reached
    return 1 if missed else 0


def _row(figure: Figure) -> str:
    sign = "≤" if figure.at_most else "≥"
    control = "" if figure.control is None else f"{figure.control:.3g}"
    value = f"{figure.value:.3g}" + ("" if figure.reached else " (missed)")
    return f"| {figure.part} | {figure.name} | {value} | {sign} {figure.goal:g} | {control} |"
