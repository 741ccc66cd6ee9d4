"""Where job files, images and results are: a path here, or an address that fsspec opens."""

from __future__ import annotations

import hashlib
import os
import posixpath
from pathlib import Path
from typing import Any

from ..errors import SettingsError, in_one_line
from ..files.existing import existing_file, unreadable
from ..imaging.images import FloatImage
from ..imaging.reading import read_image

_MARK, _LOCAL = "://", "file://"


def is_remote(address: str) -> bool:
    """Whether fsspec has to open it."""
    return _MARK in address and not address.startswith(_LOCAL)


def resolved(address: str, base: str) -> str:
    """Returns an address from which no folder is missing.

    Args:
        address: A path, taken from `base` where it is relative, or an address with a scheme.
        base: A folder's path or address.
    """
    if _MARK in address:
        return address.removeprefix(_LOCAL)
    path = Path(os.path.expanduser(address))  # As it is where there is no such user.
    if path.is_absolute():
        return str(path)
    return posixpath.join(base, address) if is_remote(base) else str(Path(base, path).absolute())


def folder_of(address: str) -> str:
    """Returns the folder that a file lies in."""
    if is_remote(address):
        return address.rpartition("/")[0]
    return str(Path(address.removeprefix(_LOCAL)).absolute().parent)


def opened(address: str) -> tuple[Any, str]:
    """Returns fsspec's file system of an address and the path in it.

    Raises:
        SettingsError: The library, or the one for this kind of address, is not here.
    """
    try:
        from fsspec.core import url_to_fs

        system, path = url_to_fs(address)
    except Exception as error:  # Each store's library has exceptions of its own.
        hint = "Check the address."
        if isinstance(error, (ImportError, ValueError)):
            hint = "Install fsspec's library for addresses of this kind, such as s3fs or gcsfs."
        said = in_one_line(error).rstrip(".")
        raise SettingsError(f"{address} cannot be opened: {said}.", hint) from error
    return system, str(path)


def read_bytes(address: str, *, field: str | None = None) -> bytes:
    """Returns a file's bytes.

    Raises:
        SettingsError: There is none, or it cannot be read.
    """
    if not is_remote(address):
        path = existing_file(Path(address), field=field)
        try:
            return path.read_bytes()
        except OSError as error:
            raise unreadable(path, error, field=field) from error
    system, path_there = opened(address)
    try:
        data: bytes = system.cat_file(path_there)
    except Exception as error:  # Each store's library has exceptions of its own.
        said = in_one_line(error)
        raise SettingsError(
            f"{address} cannot be read: {said}.", "Check the address.", field=field
        ) from error
    return data


def files_in(folder: str) -> list[str]:
    """Returns the addresses of the files in a folder, by name; hidden ones are left out.

    Raises:
        SettingsError: There is no such folder, or it cannot be read.
    """
    if is_remote(folder):
        system, path = opened(folder)
        scheme = folder.partition(_MARK)[0]
        try:
            found = [one for one in system.ls(path, detail=False) if system.isfile(one)]
        except Exception as error:
            raise SettingsError(
                f"{folder} cannot be read: {in_one_line(error)}.", "Check the address."
            ) from error
        return sorted(f"{scheme}{_MARK}{one}" for one in found)
    if not os.path.isdir(folder):
        raise SettingsError(f"There is no folder {folder}.", "Check the name.")
    try:
        here = [path for path in Path(folder).iterdir() if path.is_file()]
    except OSError as error:
        raise unreadable(Path(folder), error) from error
    return sorted(str(path) for path in here if not path.name.startswith("."))


class Pictures:
    """The images that rows name; of each the hash is kept, and of one the pixels."""

    def __init__(self) -> None:
        self._digests: dict[str, str] = {}
        self._last: tuple[str, FloatImage] | None = None

    def __call__(self, address: Any) -> FloatImage:
        """Returns an image.

        Raises:
            SettingsError: It cannot be read, or the value is no address.
        """
        if not isinstance(address, str):
            raise SettingsError("An image must be the text of its address.", "Write its path.")
        if self._last is None or self._last[0] != address:
            data = read_bytes(address)
            self._digests[address] = hashlib.sha256(data).hexdigest()
            self._last = address, read_image(data, name=address)
        return self._last[1]

    def digest(self, address: str) -> str:
        """Returns the SHA-256 of an image's file that was read."""
        if address not in self._digests:
            self(address)
        return self._digests[address]
