"""Conditioning images in a folder, each once, found again by what they show."""

from __future__ import annotations

import os
import re
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

        The file is written whole or not at all; one that was damaged is written anew.

        Args:
            image: Grey, RGB or straight RGBA; uint8, or float in [0, 1].

        Raises:
            ImageStoreError: It cannot be written.
        """
        rgba_u8 = to_u8(as_rgba(np.asarray(image)))
        name = image_hash(rgba_u8)
        if self.load(name) is None:
            self._write(name, rgba_u8)
        return name

    def _write(self, name: str, rgba_u8: ImageU8) -> None:
        data = png_bytes(rgba_u8)
        try:
            with part_of(self._path(name)) as part:
                part.write_bytes(data)
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
        sizes = []
        with suppress(FileNotFoundError), os.scandir(self.folder) as entries:
            for entry in entries:
                if _FILE.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                    with suppress(FileNotFoundError):  # Users may delete images at any time.
                        sizes.append(entry.stat(follow_symlinks=False).st_size)
        return StoreSize(len(sizes), sum(sizes))
