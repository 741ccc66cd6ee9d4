"""What a user calls the extension that a file of code belongs to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

_FOLDERS = ("extensions", "extensions-builtin")


def title_of(p: Any, file: str) -> str:
    """Returns the title of the panel whose extension a file belongs to, else its folder's name.

    Args:
        p: The host's processing object, with its panels.
        file: A file's path; "" where it is not known.
    """
    panels = [(str(one.filename), one) for one in getattr(p.scripts, "alwayson_scripts", ())]
    folder = _folder(file)
    ours = [one for name, one in panels if name == file]
    ours += [one for name, one in panels if folder is not None and _folder(name) == folder]
    if ours:
        return str(ours[0].title())
    return f"the extension {folder.name}" if folder is not None else "another extension"


def _folder(file: str) -> Path | None:
    """Returns the folder of the extension that a file is in, or None."""
    path = Path(file)
    return next((one for one in path.parents if one.parent.name in _FOLDERS), None)
