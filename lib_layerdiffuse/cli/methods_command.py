"""`layerdiffuse methods`: the table of methods, for people and programs."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from typing import TYPE_CHECKING

from ..methods import METHODS, Layer, LayerMethod
from .parsing import add_command

if TYPE_CHECKING:
    from .parsing import Commands

_HEAD = ("ID", "ARCH", "INPUTS", "OUTPUTS", "FRAMES", "FG FRAME", "CONCAT", "CONTROL")
_LINE = "{:<21}  {:<5}  {:<11}  {:<15}  {:>6}  {:>8}  {:>6}  {}"

Plain = str | int | bool | list[str] | None


def add_to(commands: Commands) -> None:
    """Adds the command."""
    parser = add_command(commands, "methods", _run, "list the layer methods")
    parser.add_argument("--json", action="store_true", help="as JSON, one object for each method")


def _run(args: argparse.Namespace) -> int:
    if args.json:
        print(json.dumps([_plain(method) for method in METHODS], indent=2))
        return 0
    print(_LINE.format(*_HEAD))
    for method in METHODS:
        print(_text(method))
    return 0


def _plain(method: LayerMethod) -> dict[str, Plain]:
    """Returns all that the table says of a method, in JSON's types."""
    return {
        "id": method.id,
        "label": method.label,
        "arch": method.arch.value,
        "patch": method.patch.value,
        "weights": method.weights.filename,
        "inputs": _values(method.inputs),
        "outputs": _values(method.outputs),
        "frames": method.frames,
        "layer_prompts": _values(method.layer_prompts),
        "decodes": method.decodes,
        "fg_frame": method.fg_frame,
        "concat_channels": method.concat_channels,
        "uses_control": method.uses_control,
        "weight_files": [file.filename for file in method.weight_files],
    }


def _text(method: LayerMethod) -> str:
    """Returns a method's line, its label, and how it works with which files."""
    line = _LINE.format(
        method.id,
        method.arch.value,
        ", ".join(_values(method.inputs)) or "-",
        ", ".join(_values(method.outputs)),
        method.frames,
        "-" if method.fg_frame is None else method.fg_frame,
        method.concat_channels,
        "yes" if method.uses_control else "no",
    )
    files = ", ".join(file.stem for file in method.weight_files)
    return f"{line}\n    {method.label}\n    {method.patch.value}: {files}"


def _values(layers: Iterable[Layer]) -> list[str]:
    return [layer.value for layer in layers]
