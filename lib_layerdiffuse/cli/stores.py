"""The options that say where the weight files are, for every command that needs some."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import SettingsError
from .parsing import path

if TYPE_CHECKING:
    from ..callbacks import OnDownload
    from ..weights.store import WeightStore
    from .parsing import Options

_WEBUI_FOLDER = Path("models", "layer_model")


def add_store_options(options: Options) -> None:
    """Adds --models-dir, --extra-dir and --offline."""
    add = options.add_argument
    add(
        "--models-dir",
        type=path,
        metavar="DIR",
        help=f"where downloads go (default: {_WEBUI_FOLDER} here if there is one, otherwise "
        "layerdiffuse in the user's cache folder)",
    )
    add(
        "--extra-dir",
        type=path,
        metavar="DIR",
        action="append",
        default=[],
        help="a further folder to look in; may be repeated",
    )
    add("--offline", action="store_true", help="never download")


def store_of(
    args: argparse.Namespace, *, makes_folder: bool = False, on_progress: OnDownload | None = None
) -> WeightStore:
    """Returns the store that the options describe.

    Args:
        args: The parsed options.
        makes_folder: Whether a folder for downloads that is not there will be made.
        on_progress: Told of downloads.

    Raises:
        SettingsError: A folder that is named is not there.
    """
    from ..weights.store import WeightStore

    folder: Path = args.models_dir or _default_folder()
    needed = folder.exists() or (args.models_dir and not makes_folder)
    for place in [*([folder] if needed else []), *args.extra_dir]:
        if not place.is_dir():
            raise SettingsError(f"There is no folder {place}.", "Check the name.")
    return WeightStore(
        folder, extra_folders=args.extra_dir, offline=args.offline, on_progress=on_progress
    )


def _default_folder() -> Path:
    if _WEBUI_FOLDER.is_dir():
        return _WEBUI_FOLDER
    return path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "layerdiffuse"
