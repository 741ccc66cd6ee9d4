"""Files that a person names, met before anything is read of them."""

from __future__ import annotations

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
    if path.is_file():
        return path
    called = name or path
    if not path.exists():
        raise SettingsError(f"There is no file {called}.", "Check the name.", field=field)
    what = "a folder" if path.is_dir() else "no ordinary file"
    raise SettingsError(f"{called} is {what}.", "Name a file.", field=field)


def unreadable(
    path: Path, error: OSError, *, name: str = "", field: str | None = None
) -> SettingsError:
    """Returns what to raise where the system does not let a file be read."""
    return SettingsError(
        f"{name or path} cannot be read: {error.strerror or error}.",
        "Allow reading it.",
        field=field,
    )
