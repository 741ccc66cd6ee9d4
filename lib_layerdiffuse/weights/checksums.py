"""SHA-256 of weight files: computed, listed in `SHA256SUMS`, remembered, and judged."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import tempfile
from pathlib import Path

from ..released import WeightFile
from .tensor_files import what_else

LIST_NAME = "SHA256SUMS"

_LINE = re.compile(r"^([0-9a-fA-F]{64})[ \t]+\*?(?:\./)?(.+?)\s*$")
_log = logging.getLogger(__name__)


def sha256_of(path: Path) -> str:
    """Returns the file's SHA-256 in lower-case hex.

    Raises:
        OSError: The file cannot be read.
    """
    digest, buffer = hashlib.sha256(), bytearray(1 << 20)
    view = memoryview(buffer)
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            digest.update(view[:count])
    return digest.hexdigest()


def listed_hashes(path: Path) -> frozenset[str]:
    """Returns the hashes that the `SHA256SUMS` beside `path` gives for its name; empty if none.

    The list is what `sha256sum NAME` prints. With it the owner of a file vouches for it.
    """
    sums = path.parent / LIST_NAME
    try:
        lines = sums.read_text("utf-8-sig").splitlines()
    except FileNotFoundError:
        return frozenset()
    except (OSError, UnicodeDecodeError) as error:
        _log.warning("%s is left out, since it cannot be read as UTF-8 text: %s.", sums, error)
        return frozenset()
    found = (match for line in lines if (match := _LINE.match(line)))
    return frozenset(match[1].lower() for match in found if match[2] == path.name)


def problem_with(path: Path, file: WeightFile, sha256: str | None) -> str | None:
    """Returns why `path` may not be used as `file`, or None if nothing is known against it.

    It may be the released file, or any that `SHA256SUMS` lists under its name.

    Args:
        path: The file on disk.
        file: What was released.
        sha256: The hash of `path`, or None to compare only the size.

    Raises:
        OSError: The file cannot be looked at.
    """
    listed, size = listed_hashes(path), path.stat().st_size
    if not listed and file.size is not None and size != file.size:
        what = what_else(path)
        is_ = what[0] if what else "is damaged or not the released file"
        return f"{path} {is_}: it has {size} bytes, not {file.size}."
    if sha256 is None or sha256 in {file.sha256, *listed}:
        return None
    wanted = " or ".join((file.sha256, *sorted(listed - {file.sha256})))
    return f"{path} is damaged or not the released file: its SHA-256 is {sha256}, not {wanted}."


class HashMemo:
    """Hashes of files seen before, keyed by resolved path, size and modification time.

    Kept in memory and, where the folder allows it, in a JSON file that processes share.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._known: dict[str, list[int | str]] = {}

    def recall(self, path: Path) -> str | None:
        """Returns the hash of `path` as it is now, or None if it was not seen so.

        Raises:
            OSError: The file cannot be looked at.
        """
        key, stamp = str(path.resolve()), _stamp(path)
        if self._known.get(key, [])[:2] != stamp:
            self._known |= _read(self._file)
        known = self._known.get(key, [])
        return str(known[2]) if known[:2] == stamp else None

    def hash(self, path: Path, *, fresh: bool = False) -> str:
        """Returns the SHA-256 of `path`, from memory unless it changed or `fresh` is set.

        Raises:
            OSError: The file cannot be read.
        """
        if not fresh and (known := self.recall(path)) is not None:
            return known
        stamp = _stamp(path)
        value = sha256_of(path)
        self.remember(path, value, stamp)
        return value

    def remember(self, path: Path, sha256: str, stamp: list[int] | None = None) -> None:
        """Keeps the hash that `path` had at `stamp` (size, mtime in ns), or has now."""
        self._known[str(path.resolve())] = [*(stamp or _stamp(path)), sha256]
        self._write()

    def _write(self) -> None:
        """Adds what this process knows to the file; other processes' entries stay."""
        self._known = _read(self._file) | self._known
        try:
            self._file.parent.mkdir(exist_ok=True)
            handle, name = tempfile.mkstemp(prefix=self._file.name, dir=self._file.parent)
        except OSError:
            return  # a read-only folder, or none yet: memory has to do
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as out:
                json.dump(self._known, out, indent=1)
            Path(name).replace(self._file)
        except OSError:
            Path(name).unlink(missing_ok=True)


def _stamp(path: Path) -> list[int]:
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns]


def _read(file: Path) -> dict[str, list[int | str]]:
    """Returns the entries of a memo file; empty if it is missing or not one."""
    try:
        entries = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(entries, dict):
        return {}
    return {
        path: entry
        for path, entry in entries.items()
        if isinstance(entry, list) and [type(value) for value in entry] == [int, int, str]
    }
