"""`layerdiffuse weights`: lists, fetches and verifies the weight files."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from typing import TYPE_CHECKING

from ..errors import SettingsError
from ..methods import find_method
from ..released import WEIGHT_FILES, WeightFile
from .parsing import add_command
from .stores import add_store_options, store_of

if TYPE_CHECKING:
    from ..weights.store import FileStatus, WeightStore
    from .parsing import Commands, Parser

_DETAIL_COLUMN = 18


def add_to(commands: Commands) -> None:
    """Adds the command and its three actions."""
    about = "list, fetch or verify the weight files"
    parser = commands.add_parser("weights", help=about, description=f"{about.capitalize()}.")
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    listing = add_command(actions, "list", _list, "show what is on disk, without reading the files")
    fetching = add_command(actions, "fetch", _fetch, "download and verify what is not on disk")
    verifying = add_command(
        actions, "verify", _verify, "hash files; status 1 if one is bad, or named and not there"
    )
    for action in (listing, fetching, verifying):
        _add_options(action)
    fetching.add_argument(
        "--method",
        metavar="ID",
        action="append",
        default=[],
        help="fetch all that a method needs; may be repeated",
    )


def _add_options(parser: Parser) -> None:
    parser.add_argument(
        "stems", nargs="*", metavar="STEM", help="a file's name without .safetensors"
    )
    add_store_options(parser)


def _list(args: argparse.Namespace) -> int:
    files = _files(args.stems) or list(WEIGHT_FILES.values())
    store = _store(args)
    for file in files:
        _print_status(file, store.status(file))
    return 0


def _fetch(args: argparse.Namespace) -> int:
    of_methods = [file for name in args.method for file in find_method(name).weight_files]
    files = dict.fromkeys([*_files(args.stems), *of_methods])
    if not files:
        raise SettingsError(
            "Say which weight files, by name or by --method.",
            "See `layerdiffuse methods` for both.",
        )
    store = _store(args, makes_folder=True)
    for file in files:
        print(store.ensure(file), flush=True)
    return 0


def _verify(args: argparse.Namespace) -> int:
    named = _files(args.stems)
    store = _store(args)
    files = named or [file for file in WEIGHT_FILES.values() if store.find(file)]
    bad = 0
    for file in files:
        status = store.verify(file)
        _print_status(file, status)
        bad += not status.usable
    print(f"{len(files)} checked, {bad} bad")
    return int(bad > 0)


def _files(stems: Iterable[str]) -> list[WeightFile]:
    names = dict.fromkeys(stem.removesuffix(".safetensors") for stem in stems)
    for name in names:
        if name not in WEIGHT_FILES:
            raise SettingsError(
                f"There is no weight file called {name}.",
                f"Use one of: {', '.join(WEIGHT_FILES)}.",
            )
    return [WEIGHT_FILES[name] for name in names]


def _store(args: argparse.Namespace, *, makes_folder: bool = False) -> WeightStore:
    """Returns the store that the options describe, and says where it is."""
    store = store_of(args, makes_folder=makes_folder)
    print(f"Folder: {store.folder}", flush=True)
    return store


def _print_status(file: WeightFile, status: FileStatus) -> None:
    size = status.path.stat().st_size if status.path else file.size
    print(f"{status.state.value:<8}{_size(size):>8}  {status.path or file.filename}")
    if status.detail != "not on disk":
        print(f"{'':{_DETAIL_COLUMN}}{status.detail}", flush=True)


def _size(count: float | None) -> str:
    if count is None:
        return "?"
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
