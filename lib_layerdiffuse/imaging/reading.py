"""Image files as arrays: the one reader, for every front end.

Of several frames the first is read.
"""

from __future__ import annotations

import io
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..errors import SettingsError
from ..files.existing import existing_file, unreadable
from .colour_spaces import cmyk_as_rgb, in_srgb
from .formats import HEAD, MULTI_JPEG, formats, kind_of
from .images import FloatImage, unpremultiply

MOST_PIXELS = 2**27
"""The largest image that is decoded: 134 megapixels, 2 GiB as floats."""

_ORIENTATION, _BITS, _PLANES = 0x0112, 0x0102, 0x011C  # Tags of EXIF and TIFF.
_GREY_STEPS = {"L;2": 85, "L;4": 17}  # Pillow scales such greys to 255, but not their clear one.
_DEEP = re.compile(r"(RGBA|RGBa|RGBX|RGB|LA);16[BLN]")
_OTHER_ORDER = {"B": "L", "L": "B", "N": "L" if sys.byteorder == "big" else "B"}
_WITH_ALPHA = ("P", "PA", "LA", "RGBa", "RGBA")

Numbers = npt.NDArray[Any]


class _UnreadableError(Exception):
    """Why an image cannot be read.

    Attributes:
        what: Goes on after the image's name.
        hint: What to do.
    """

    def __init__(self, what: str, hint: str) -> None:
        super().__init__(what)
        self.what, self.hint = what, hint


def read_image(
    source: Path | bytes | Image.Image, *, name: str = "", field: str | None = None
) -> FloatImage:
    """Returns an image, upright, as straight RGBA `h w 4`, float32 in [0, 1]; opaque without alpha.

    Colours are sRGB: what an ICC profile or gAMA says of the file's numbers is applied. Files keep
    all digits of 16 bits in PNG and TIFF, but for a profile's colours. An image that Pillow has
    opened already keeps those of grey alone.

    Args:
        source: A file, a file's bytes, or an image of Pillow's, decoded or not.
        name: What messages call it; a file's path, where it is left out.
        field: Name of the setting that holds the image, for the error.

    Raises:
        SettingsError: It is no whole image of a kind that is let in, or too large. No part of a
            damaged file is given, and the size is known before anything is decoded.
    """
    called = name or (str(source) if isinstance(source, Path) else "The file")
    try:
        with _quiet():
            if isinstance(source, Image.Image):
                return _from_pillow(source)
            with _stream(source, name, field) as stream:
                return _from_file(stream)
    except _UnreadableError as error:
        raise SettingsError(f"{called} {error.what}", error.hint, field=field) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps Pillow's notes on odd files from the console: what matters is raised."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield


@contextmanager
def _stream(source: Path | bytes, name: str, field: str | None) -> Iterator[BinaryIO]:
    if isinstance(source, bytes):
        yield io.BytesIO(source)
        return
    try:
        opened = existing_file(source, name=name, field=field).open("rb")
    except OSError as error:
        raise unreadable(source, error, name=name, field=field) from error
    with opened:
        yield opened


def _from_file(stream: BinaryIO) -> FloatImage:
    try:
        image = Image.open(stream, formats=tuple(formats()))
    except Image.DecompressionBombError as error:
        raise _too_large() from error
    except Exception as error:
        stream.seek(0)
        raise _not_let_in(stream.read(HEAD)) from error
    _check(image)
    packing = _packing(image)
    deep = _DEEP.fullmatch(packing)
    numbers = _sixteen_bits(stream, image, packing) if deep else _decoded(image)
    rgba = _rgba(numbers, _clear_colour(image, packing))
    straight = unpremultiply(rgba) if packing.startswith("RGBa;16") else rgba
    return in_srgb(straight, image.info, image.format)


def _from_pillow(image: Image.Image) -> FloatImage:
    packing = _packing(image)
    if packing and image.format not in (*formats(), MULTI_JPEG):
        raise _refused(f"its content is {image.format}")
    _check(image)
    rgba = _rgba(_decoded(image), _clear_colour(image, packing))
    return in_srgb(rgba, image.info, image.format)


def _check(image: Image.Image) -> None:
    width, height = image.size
    if width * height > MOST_PIXELS:
        raise _too_large(f"{width} x {height} pixels")
    if not width * height:
        raise _UnreadableError("is an image without pixels.", "Use another one.")
    tags = getattr(image, "tag_v2", {})  # Of a TIFF.
    bits = tags.get(_BITS, ())
    if tags.get(_PLANES) == 2 and len(bits) > 1 and max(bits) > 8:
        raise _rare("TIFF")  # Pillow mixes the bytes of such planes up.


def _packing(image: Image.Image) -> str:
    """Returns how the file holds an image's numbers, in Pillow's words; "" once it is decoded."""
    tiles = getattr(image, "tile", None)
    if not tiles:
        return ""
    arguments = tiles[0][3]
    return str(arguments[0] if isinstance(arguments, tuple) and arguments else arguments)


def _decoded(image: Image.Image) -> Numbers:
    """Returns an image, upright, as `h w` or `h w 3|4` straight, uint8 or, for grey, uint16."""
    _load(image)
    orientation = _orientation(image)
    if image.mode.startswith("I"):
        numbers = np.asarray(image)
        if numbers.min() < 0 or numbers.max() > np.iinfo(np.uint16).max:
            raise _without_white()
        return _upright(numbers.astype(np.uint16), orientation)
    if image.mode == "F":
        raise _without_white()
    if image.mode in ("1", "L"):
        return _upright(np.asarray(image.convert("L")), orientation)
    image = image.convert("LA") if image.mode == "La" else image  # Straight first, then colours.
    image = cmyk_as_rgb(image) if image.mode == "CMYK" else image
    image = image.convert("RGBA" if image.mode in _WITH_ALPHA else "RGB")
    return _upright(np.asarray(image), orientation)


def _sixteen_bits(stream: BinaryIO, image: Image.Image, packing: str) -> Numbers:
    """Returns a file's colours, upright, as `h w 3|4`, uint16, with alpha as the file has it.

    Pillow keeps the first byte of such a number. Told the other order of bytes, it keeps the
    second one.
    """
    if packing.startswith("LA"):
        pairs = np.ascontiguousarray(_unpacked(stream, image, "RGBA")).view(">u2")
        return pairs[..., [0, 0, 0, 1]].astype(np.uint16)
    unpacked = packing.replace("RGBa", "RGBA")
    high = _unpacked(stream, image, unpacked).astype(np.uint16)
    low = _unpacked(stream, image, unpacked[:-1] + _OTHER_ORDER[unpacked[-1]])
    return (high << 8 | low)[..., : 3 if packing.startswith(("RGB;", "RGBX")) else 4]


def _unpacked(stream: BinaryIO, image: Image.Image, packing: str) -> Numbers:
    """Returns a file's numbers, upright, as bytes that are packed in another way than it says."""
    again: Any = Image.open(stream, formats=(str(image.format),))
    again.tile = [
        (*place, packing if isinstance(arguments, str) else (packing, *arguments[1:]))
        for *place, arguments in again.tile
    ]
    _load(again)
    return _upright(np.asarray(again), _orientation(again))


def _load(image: Image.Image) -> None:
    try:
        image.load()
    except Exception as error:
        raise _UnreadableError(
            "is damaged or cut off.", "Save, download or copy the file once more."
        ) from error


def _orientation(image: Image.Image) -> int:
    """Returns how the numbers of a decoded image lie, as EXIF counts: 1 is upright."""
    if image.format == "TIFF":
        return 1  # Pillow turns these itself, and some versions leave the note in them.
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # A note that is damaged says nothing of the pixels.
        return 1


def _upright(numbers: Numbers, orientation: int) -> Numbers:
    if orientation in (5, 6, 7, 8):
        numbers = numbers.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        numbers = numbers[:, ::-1]
    return numbers[::-1] if orientation in (3, 4, 7, 8) else numbers


def _clear_colour(image: Image.Image, packing: str) -> tuple[int, ...]:
    """Returns the one colour of a decoded image that is transparent, in its numbers; () for none.

    A palette's is in its numbers already.
    """
    key = image.info.get("transparency")
    if isinstance(key, int):
        return (255 * bool(key) if image.mode == "1" else key * _grey_step(image, packing, key),)
    return key if isinstance(key, tuple) else ()


def _grey_step(image: Image.Image, packing: str, key: int) -> int:
    """Returns by how much Pillow has multiplied greys of few bits, and not their clear one.

    Of an image that was decoded elsewhere the greys themselves must tell: the clear one is there.
    """
    if packing or image.mode != "L":
        return _GREY_STEPS.get(packing, 1)
    greys = {grey for grey, count in enumerate(image.histogram()) if count}
    return next(
        (
            step
            for step in _GREY_STEPS.values()
            if key not in greys and key * step in greys and not any(grey % step for grey in greys)
        ),
        1,
    )


def _rgba(numbers: Numbers, clear: tuple[int, ...]) -> FloatImage:
    """Returns grey `h w`, RGB or RGBA of 8 or 16 bits as RGBA in [0, 1]."""
    channels = numbers.reshape(*numbers.shape[:2], -1)
    count = channels.shape[2]
    rgba = np.ones((*channels.shape[:2], 4), np.float32)
    filled = rgba[..., : max(3, count)]
    np.divide(channels, np.float32(np.iinfo(numbers.dtype).max), out=filled, dtype=np.float32)
    if len(clear) == count and count in (1, 3):
        rgba[..., 3] = (channels != np.array(clear)).any(axis=2)
    return rgba


def _not_let_in(head: bytes) -> _UnreadableError:
    """Returns what to say of a file that no decoder takes, by its first bytes."""
    if not head:
        return _refused("it is empty")
    kind = kind_of(head)
    if kind in formats().values():
        return _rare(kind)
    return _refused(f"its content is {kind}" if kind else "its kind is unknown")


def _rare(kind: str) -> _UnreadableError:
    return _UnreadableError(
        f"is a {kind} file that cannot be read: it is damaged, or of a rare sort.",
        "Open it in another program and save it as PNG.",
    )


def _refused(why: str) -> _UnreadableError:
    *most, last = formats().values()
    return _UnreadableError(
        f"is not an image that can be read ({why}).", f"Use a {', '.join(most)} or {last} file."
    )


def _too_large(size: str = "") -> _UnreadableError:
    return _UnreadableError(
        f"is too large{f' ({size})' if size else ''}.",
        f"Make it smaller: {MOST_PIXELS // 10**6} megapixels at most.",
    )


def _without_white() -> _UnreadableError:
    return _UnreadableError(
        "has numbers of which nobody can say how bright they are.",
        "Save it with 8 or 16 bits for each colour.",
    )
