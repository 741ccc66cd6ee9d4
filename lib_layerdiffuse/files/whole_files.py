"""Files that are written whole or not at all: their readers never meet half of one."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import BinaryIO

from ..errors import SettingsError

_KEPT = 24
"""Characters of a file's name that its part's name keeps."""


@contextmanager
def part_of(path: Path) -> Iterator[Path]:
    """Gives the name of a new file beside `path`, which is deleted in the end if it is there.

    The folder is made. Whoever has written the file gives it the name `path`.

    Raises:
        OSError: The folder cannot be made.
    """
    # Where a name is as long as the file system allows, a longer one cannot stand beside it.
    part = path.with_name(f".{path.name[:_KEPT]}.{secrets.token_hex(4)}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield part
    finally:
        with suppress(OSError):
            part.unlink()


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Gives a file to write to that takes the name `path` when the block ends well.

    The folder is made. Where the block raises, a file of that name stays as it was. A link is
    followed, and a file that is there keeps its mode.

    Raises:
        SettingsError: Nothing can be written there; where possible, said before the block runs.
    """
    with _reporting_errors(path):
        target = Path(os.path.realpath(path))
        if target.exists() and not target.is_file():
            raise SettingsError(f"{path} is there and is no file.", "Choose a name for a new file.")
        with part_of(target) as part:
            with part.open("xb") as out:
                yield out
            with suppress(FileNotFoundError):
                part.chmod(stat.S_IMODE(target.stat().st_mode))
            part.replace(target)


def check_folder(folder: Path) -> None:
    """Checks that files can be written to a folder, which is there or can be made.

    Nothing is left of the attempt.

    Raises:
        SettingsError: They cannot.
    """
    with _reporting_errors(folder):
        place = Path(os.path.realpath(folder))
        if place.is_file():
            raise SettingsError(f"{folder} is a file, no folder.", "Choose another name.")
        missing = [one for one in (place, *place.parents) if not one.exists()]
        try:
            with part_of(place / "test") as part:
                part.write_bytes(b"\0")
        finally:
            for one in missing:
                with suppress(OSError):
                    one.rmdir()


@contextmanager
def taken_names(paths: Sequence[Path]) -> Iterator[None]:
    """Takes names that no other program can take meanwhile; those left empty are given up.

    The folders are made.

    Raises:
        FileExistsError: One of them is there; none is taken.
        SettingsError: Nothing can be written there.
    """
    taken: list[Path] = []
    try:
        for path in paths:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.open("xb").close()
            except FileExistsError:
                raise
            except OSError as error:
                raise _unwritable(path, error) from error
            taken.append(path)
        yield
    finally:
        for path in taken:
            with suppress(OSError):
                if not path.stat().st_size:
                    path.unlink()


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
    for free in names_like(path):
        try:
            free.open("xb").close()
        except FileExistsError:
            continue
        return free
    raise AssertionError("There is always another number.")


def names_like(path: Path) -> Iterator[Path]:
    """Yields `a.psd`, `a-2.psd`, …, each as short as the file system wants it."""
    yield path
    longest = longest_name(path.parent)
    for number in count(2):
        ending = f"-{number}{path.suffix}"
        yield path.with_name(cut(path.stem, longest - len(os.fsencode(ending))) + ending)


def cut(text: str, most: int) -> str:
    """Returns as much of a text's beginning as has so many bytes in a file's name."""
    while text and len(os.fsencode(text)) > most:
        text = text[:-1]
    return text


def longest_name(folder: Path) -> int:
    """Returns how many bytes a file's name may have."""
    try:
        return os.pathconf(folder, "PC_NAME_MAX")
    except (AttributeError, OSError, ValueError):  # Windows has no such call.
        return 255


@contextmanager
def _reporting_errors(path: Path) -> Iterator[None]:
    """Raises what the disk does not allow as an error for the user."""
    try:
        yield
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> SettingsError:
    hint = "Choose a folder that you may write to, on a disk with space."
    if error.errno == errno.ENAMETOOLONG:
        hint = "Choose a shorter name."
    return SettingsError(f"{path} could not be written: {error.strerror or error}.", hint)
