"""Conditioning images in a folder, each once, found again by what they show."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import ImageStoreError, SettingsError
from ..files.whole_files import part_of
from .images import ImageU8, as_rgba, to_u8
from .png import png_bytes
from .reading import read_image

_HASH = re.compile(r"[0-9a-f]{64}")
_FILE = re.compile(rf"{_HASH.pattern}\.png")
_LEAVING = re.compile(rf"\.{_FILE.pattern}\.old")
_CLOCK = 2.0
"""Seconds by which a file system may round a time."""


class StoreSize(NamedTuple):
    """What a store holds."""

    images: int
    bytes: int


def is_image_hash(text: object) -> bool:
    """Whether a text can name a kept image; only such texts become file names."""
    return isinstance(text, str) and _HASH.fullmatch(text) is not None


def image_hash(rgba_u8: ImageU8) -> str:
    """Returns the SHA-256 of an image's size and pixels, in hex: the same for every encoding.

    Args:
        rgba_u8: `h w 4`, straight; colours under alpha 0 count.
    """
    height, width = rgba_u8.shape[:2]
    return sha256(f"{width}x{height} RGBA\n".encode() + rgba_u8.tobytes()).hexdigest()


class ImageStore:
    """Images as PNG files that are named by their hash."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def keep(self, image: npt.ArrayLike) -> str:
        """Returns the hash under which the image lies here from now on.

        The file is written whole or not at all; one that was damaged is written anew. It counts as
        used now.

        Args:
            image: Grey, RGB or straight RGBA; uint8, or float in [0, 1].

        Raises:
            ImageStoreError: It cannot be written.
        """
        rgba_u8 = to_u8(as_rgba(np.asarray(image)))
        name = image_hash(rgba_u8)
        with suppress(OSError):  # Used before it is looked at: whoever prunes looks at the time.
            _use(self._path(name))
        if self.load(name) is None:
            self._write(name, rgba_u8)
        return name

    def prune(self, most: int, most_bytes: int, since: float) -> int:
        """Returns how many images were deleted: the least recently used, until the rest fits.

        Several processes may keep and prune at once: what one of them uses meanwhile stays.

        Args:
            most: How many images may stay.
            most_bytes: How many bytes.
            since: Those used from this time on stay, in seconds of the clock, however many.
        """
        deleted = total = 0
        latest_first = sorted(self._files(), key=lambda file: file.used, reverse=True)
        for count, file in enumerate(latest_first, 1):
            total += file.bytes
            if (count > most or total > most_bytes) and file.used < since - _CLOCK:
                deleted += self._delete(file)
        for file in self._files(_LEAVING):  # A crash has left it.
            if file.used < since - _CLOCK:
                with suppress(OSError):
                    (self.folder / file.name).unlink()
        return deleted

    def _delete(self, file: _File) -> bool:
        """Returns whether a file is deleted; not if it was used since it was looked at.

        It is taken aside first. From then on nobody finds it, and writes it anew; whoever found it
        before has noted that on it.
        """
        path, aside = self.folder / file.name, self.folder / f".{file.name}.old"
        try:
            path.rename(aside)
        except OSError:  # Another process has taken it, or reads it on Windows.
            return False
        try:
            if aside.stat().st_mtime > file.used:
                aside.replace(path)
                return False
            aside.unlink()
        except FileNotFoundError:  # Another process took it for what a crash has left.
            return True
        except OSError:
            return False
        return True

    def _write(self, name: str, rgba_u8: ImageU8) -> None:
        data = png_bytes(rgba_u8)
        try:
            with part_of(self._path(name)) as part:
                part.write_bytes(data)
                _use(part)
                part.replace(self._path(name))
        except OSError as error:
            raise ImageStoreError(
                f"An image could not be kept in {self.folder}: {error.strerror or error}.",
                "Make room or allow writing there, or turn off keeping images in the settings.",
            ) from error

    def load(self, name: str) -> ImageU8 | None:
        """Returns a kept image, straight RGBA `h w 4`, or None if it is not here undamaged.

        Any text may be asked for; what is no hash is not here.
        """
        if not is_image_hash(name):
            return None
        try:
            rgba_u8 = to_u8(read_image(self._path(name)))
        except SettingsError:
            return None
        return rgba_u8 if image_hash(rgba_u8) == name else None

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.png"

    def size(self) -> StoreSize:
        """Returns how many images are kept, and their bytes on disk."""
        sizes = [file.bytes for file in self._files()]
        return StoreSize(len(sizes), sum(sizes))

    def _files(self, like: re.Pattern[str] = _FILE) -> Iterator[_File]:
        with suppress(FileNotFoundError), os.scandir(self.folder) as entries:
            for entry in entries:
                if like.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                    with suppress(OSError):  # Users may delete images at any time.
                        told = entry.stat(follow_symlinks=False)
                        yield _File(entry.name, told.st_size, told.st_mtime)


class _File(NamedTuple):
    """A file of a store: its name, its bytes, and when it was used last."""

    name: str
    bytes: int
    used: float


def _use(path: Path) -> None:
    """Notes on a file that it is used now, by this computer's clock, wherever the file lies."""
    now = time.time()
    os.utime(path, (now, now))
