"""Conditioning pictures in a folder, each once, found again by what they show."""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from ..errors import PictureStoreError
from ..files.whole_files import part_of
from .images import PictureU8, as_rgba, to_u8

_HASH = re.compile(r"[0-9a-f]{64}")
_FILE = re.compile(rf"{_HASH.pattern}\.png")
_PART = re.compile(rf"\.{_HASH.pattern}\.png\.[0-9a-f]+\.part")
_STALE = 3600.0  # Seconds after which nobody is writing a part any more.


class StoreSize(NamedTuple):
    """What a store holds."""

    pictures: int
    bytes: int


def is_picture_hash(text: object) -> bool:
    """Whether a text can name a kept picture; only such texts become file names."""
    return isinstance(text, str) and _HASH.fullmatch(text) is not None


def picture_hash(rgba_u8: PictureU8) -> str:
    """Returns the SHA-256 of a picture's size and pixels, in hex: the same for every encoding.

    Args:
        rgba_u8: `h w 4`, straight; colours under alpha 0 count.
    """
    height, width = rgba_u8.shape[:2]
    return sha256(f"{width}x{height} RGBA\n".encode() + rgba_u8.tobytes()).hexdigest()


class PictureStore:
    """Pictures as PNG files that are named by their hash."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def keep(self, picture: npt.ArrayLike) -> str:
        """Returns the hash under which the picture lies here from now on.

        The file is written whole or not at all; one that was damaged is written anew.

        Args:
            picture: Grey, RGB or straight RGBA; uint8, or float in [0, 1].

        Raises:
            PictureStoreError: It cannot be written.
        """
        rgba_u8 = to_u8(as_rgba(np.asarray(picture)))
        name = picture_hash(rgba_u8)
        if self.load(name) is None:
            self._write(name, rgba_u8)
        return name

    def _write(self, name: str, rgba_u8: PictureU8) -> None:
        _, data = cv2.imencode(".png", cv2.cvtColor(rgba_u8, cv2.COLOR_RGBA2BGRA))
        try:
            with part_of(self._path(name)) as part:
                part.write_bytes(data.tobytes())
                part.replace(self._path(name))
        except OSError as error:
            raise PictureStoreError(
                f"Expected to keep a picture in {self.folder}, got: {error.strerror or error}.",
                "Make room or allow writing there, or turn off keeping pictures in the settings.",
            ) from error

    def load(self, name: str) -> PictureU8 | None:
        """Returns a kept picture, straight RGBA `h w 4`, or None if it is not here undamaged.

        It counts as used now. Any text may be asked for; what is no hash is not here.
        """
        if not is_picture_hash(name):
            return None
        rgba_u8 = _read(self._path(name))
        if rgba_u8 is None or picture_hash(rgba_u8) != name:
            return None
        with suppress(OSError):
            os.utime(self._path(name))
        return rgba_u8

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.png"

    def size(self) -> StoreSize:
        """Returns how many pictures are kept, and their bytes on disk."""
        sizes = [status.st_size for _, status in self._files(_FILE)]
        return StoreSize(len(sizes), sum(sizes))

    def prune(self, most_bytes: int = 0) -> StoreSize:
        """Deletes the pictures unused for longest until the rest fits; returns what is left.

        Files that the store did not write are neither counted nor touched.

        Args:
            most_bytes: The room to fit into; 0 empties the store.
        """
        now = time.time()
        for path, status in self._files(_PART):
            if now - status.st_mtime > _STALE:
                _delete(path)
        room = most_bytes
        for path, status in sorted(self._files(_FILE), key=_last_used, reverse=True):
            room -= status.st_size
            if room < 0:
                _delete(path)
        return self.size()

    def _files(self, pattern: re.Pattern[str]) -> list[tuple[Path, os.stat_result]]:
        found = []
        with suppress(FileNotFoundError), os.scandir(self.folder) as entries:
            for entry in entries:
                if pattern.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                    with suppress(FileNotFoundError):  # Another process prunes, too.
                        found.append((Path(entry.path), entry.stat(follow_symlinks=False)))
        return found


def _last_used(file: tuple[Path, os.stat_result]) -> tuple[float, str]:
    path, status = file
    return status.st_mtime, path.name


def _read(path: Path) -> PictureU8 | None:
    """Returns a file of the store as RGBA, or None if it is none."""
    try:
        data = np.frombuffer(path.read_bytes(), np.uint8)
        # OpenCV is typed as if it always returned a picture.
        bgra: npt.NDArray[np.uint8] | None = (
            cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if data.size else None  # type: ignore[assignment]
        )
    except (OSError, cv2.error):
        return None
    if bgra is None or bgra.dtype != np.uint8 or bgra.shape[2:] != (4,):
        return None
    return np.ascontiguousarray(bgra[..., [2, 1, 0, 3]])


def _delete(path: Path) -> None:
    with suppress(OSError):
        path.unlink()
