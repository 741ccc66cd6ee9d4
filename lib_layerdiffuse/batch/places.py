"""Where results are kept: a folder here, or one that fsspec opens. Each file is there whole or not.

A row has a folder of its own, `rows/ID`. Its `row.json` is written last: with it the row is done.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from ..errors import OutputError, SettingsError, in_one_line
from ..files.whole_files import check_folder, whole_file
from .addresses import is_remote, opened

ROWS, DONE = "rows", "row.json"


class Place(Protocol):
    """A folder of results; names are paths in it, with `/` between their parts."""

    address: str

    def prepare(self) -> None:
        """Makes the folder, and clears it.

        Raises:
            SettingsError: Nothing can be written there.
        """
        ...

    def clear(self) -> None:
        """Clears away what the dead have left half written; nobody writes meanwhile."""
        ...

    def put(self, name: str, data: bytes) -> None:
        """Writes a file, whole or not at all; one that is there is replaced.

        Raises:
            OutputError: It cannot be written.
        """
        ...

    def get(self, name: str) -> bytes:
        """Returns a file's bytes.

        Raises:
            OutputError: It cannot be read.
        """
        ...

    def has(self, name: str) -> bool:
        """Whether there is such a file."""
        ...

    def done(self) -> set[str]:
        """Returns the ids of the rows that are done.

        Raises:
            OutputError: It cannot be known.
        """
        ...

    def remove(self, name: str) -> None:
        """Removes a file, if it is there."""
        ...


def place_at(address: str) -> Place:
    """Returns the place at a path or an address."""
    return RemotePlace(address) if is_remote(address) else LocalPlace(address)


def row_file(row: str, name: str) -> str:
    """Returns the name of one of a row's files."""
    return f"{ROWS}/{row}/{name}"


def read_row(place: Place, row: str) -> dict[str, Any]:
    """Returns what is told of a row that is done.

    Raises:
        OutputError: It cannot be read.
    """
    told: dict[str, Any] = json.loads(place.get(row_file(row, DONE)))
    return told


class LocalPlace:
    """A folder of this computer, or one that several computers share."""

    def __init__(self, address: str) -> None:
        self.address = str(Path(address.removeprefix("file://")).expanduser().absolute())
        self.folder = Path(self.address)

    def prepare(self) -> None:
        """As in `Place`."""
        check_folder(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.clear()

    def clear(self) -> None:
        """As in `Place`."""
        for part in self.folder.rglob(".*.part"):
            with suppress(OSError):
                part.unlink()

    def put(self, name: str, data: bytes) -> None:
        """As in `Place`."""
        try:
            with whole_file(self.folder / name) as out:
                out.write(data)
        except SettingsError as error:
            raise OutputError(error.message, error.hint) from error

    def get(self, name: str) -> bytes:
        """As in `Place`."""
        try:
            return (self.folder / name).read_bytes()
        except OSError as error:
            said = error.strerror or str(error)
            raise _unreadable(str(self.folder / name), said) from error

    def has(self, name: str) -> bool:
        """As in `Place`."""
        return (self.folder / name).is_file()

    def done(self) -> set[str]:
        """As in `Place`."""
        return {path.parent.name for path in self.folder.glob(f"{ROWS}/*/{DONE}")}

    def remove(self, name: str) -> None:
        """As in `Place`."""
        (self.folder / name).unlink(missing_ok=True)


class RemotePlace:
    """A folder that fsspec opens, such as `s3://bucket/run`; stores put objects there whole."""

    def __init__(self, address: str) -> None:
        self.address = address.rstrip("/")
        self._system, path = opened(self.address)
        self._path = path.rstrip("/")

    def prepare(self) -> None:
        """As in `Place`."""
        try:
            self.put("test", b"\0")
            self.remove("test")
        except OutputError as error:
            raise SettingsError(error.message, error.hint) from error

    def clear(self) -> None:
        """As in `Place`; there is nothing, since objects are there whole or not."""

    def put(self, name: str, data: bytes) -> None:
        """As in `Place`."""
        try:
            self._system.makedirs(self._at(name).rpartition("/")[0], exist_ok=True)
            self._system.pipe_file(self._at(name), data)
        except Exception as error:  # Each store's library has exceptions of its own.
            raise OutputError(
                f"{self.address}/{name} could not be written: {in_one_line(error)}.",
                "Check the address and what you may do there.",
            ) from error

    def get(self, name: str) -> bytes:
        """As in `Place`."""
        try:
            data: bytes = self._system.cat_file(self._at(name))
        except Exception as error:
            raise _unreadable(f"{self.address}/{name}", in_one_line(error)) from error
        return data

    def has(self, name: str) -> bool:
        """As in `Place`."""
        found: bool = self._system.isfile(self._at(name))
        return found

    def done(self) -> set[str]:
        """As in `Place`."""
        try:
            return set(self._done())
        except Exception as error:
            raise _unreadable(self.address, in_one_line(error)) from error

    def _done(self) -> Iterator[str]:
        self._system.invalidate_cache()
        if self._system.isdir(self._at(ROWS)):
            for path in self._system.find(self._at(ROWS)):
                *_, row, name = path.split("/")
                if name == DONE:
                    yield row

    def remove(self, name: str) -> None:
        """As in `Place`."""
        with suppress(FileNotFoundError):
            self._system.rm_file(self._at(name))

    def _at(self, name: str) -> str:
        return f"{self._path}/{name}"


def _unreadable(name: str, said: str) -> OutputError:
    return OutputError(f"{name} cannot be read: {said}.", "Check the folder of the results.")
