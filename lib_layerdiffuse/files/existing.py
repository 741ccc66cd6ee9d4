"""Files that a person names, met before anything is read of them."""

from __future__ import annotations

import stat
from pathlib import Path

from ..errors import SettingsError


def existing_file(path: Path, *, name: str = "", field: str | None = None) -> Path:
    """Returns the path of an ordinary file.

    Args:
        path: Where.
        name: What messages call it; the path, where it is left out.
        field: Name of the setting that holds it, for the error.

    Raises:
        SettingsError: There is none.
    """
    called = name or path
    try:
        if stat.S_ISREG(path.stat().st_mode):
            return path
    except (FileNotFoundError, NotADirectoryError, ValueError):
        raise SettingsError(f"There is no file {called}.", "Check the name.", field=field) from None
    except OSError as error:
        raise unreadable(path, error, name=name, field=field) from error
    what = "a folder" if path.is_dir() else "no ordinary file"
    raise SettingsError(f"{called} is {what}.", "Name a file.", field=field)


def unreadable(
    path: Path, error: OSError, *, name: str = "", field: str | None = None
) -> SettingsError:
    """Returns what to raise where the system does not let a file be read."""
    hint = "Allow reading it." if isinstance(error, PermissionError) else "Check the name."
    return SettingsError(
        f"{name or path} cannot be read: {error.strerror or error}.", hint, field=field
    )
