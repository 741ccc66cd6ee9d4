"""Files that are written whole or not at all: their readers never meet half of one."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import BinaryIO

from ..errors import SettingsError


@contextmanager
def part_of(path: Path) -> Iterator[Path]:
    """Gives the name of a new file beside `path`, which is deleted in the end if it is there.

    The folder is made. Whoever has written the file gives it the name `path`.

    Raises:
        OSError: The folder cannot be made.
    """
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield part
    finally:
        with suppress(OSError):
            part.unlink()


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Gives a file to write to that takes the name `path` when the block ends well.

    The folder is made. Where the block raises, a file of that name stays as it was.

    Raises:
        SettingsError: Nothing can be written there; where possible, said before the block runs.
    """
    if path.exists() and not path.is_file():
        raise SettingsError(f"{path} is there and is no file.", "Choose a name for a new file.")
    with _reporting_errors(path), part_of(path) as part:
        with part.open("xb") as out:
            yield out
        part.replace(path)


def write_new(path: Path, data: bytes) -> Path:
    """Writes a file under the first name that is free, `a.psd`, `a-2.psd`, …, and returns that.

    The folder is made.

    Raises:
        SettingsError: Nothing can be written there.
    """
    with _reporting_errors(path), part_of(path) as part:
        part.write_bytes(data)
        free = _taken_name(path)
        try:
            part.replace(free)
        except OSError:
            free.unlink()
            raise
    return free


def _taken_name(path: Path) -> Path:
    """Returns the first free name, with an empty file, so that no other program can take it."""
    for number in count(1):
        free = path.with_name(f"{path.stem}-{number}{path.suffix}") if number > 1 else path
        try:
            free.open("xb").close()
        except FileExistsError:
            continue
        return free
    raise AssertionError("There is always another number.")


@contextmanager
def _reporting_errors(path: Path) -> Iterator[None]:
    """Raises what the disk does not allow as an error for the user."""
    try:
        yield
    except OSError as error:
        raise SettingsError(
            f"{path} could not be written: {error.strerror or error}.",
            "Choose a folder that you may write to, on a disk with space.",
        ) from error
