"""Image files that are written by hand, byte for byte as their formats say.

Source: the PNG specification, third edition, https://www.w3.org/TR/png-3/, and TIFF, revision 6.0.
"""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image

GREY_PNG, RGB_PNG, GREY_ALPHA_PNG, RGBA_PNG = 0, 2, 4, 6
NO_ALPHA, PREMULTIPLIED, STRAIGHT = 0, 1, 2


def noise(*shape: int, dtype: type = np.uint8) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    with io.BytesIO() as stream:
        image.save(stream, format=kind, **options)
        return stream.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(numbers: np.ndarray, colour: int, bits: int, clear: bytes = b"") -> bytes:
    """Returns a PNG of whole rows of numbers, written by hand.

    Args:
        numbers: `h w` or `h w c`.
        colour: The kind of colour, as the format counts.
        bits: For each number.
        clear: The transparent colour.
    """
    height, width = numbers.shape[:2]
    rows = numbers.reshape(height, -1)
    if bits == 16:
        packed = rows.astype(">u2").view(np.uint8)
    else:
        each = (rows[..., None] >> np.arange(bits)[::-1]) & 1
        packed = np.packbits(each.reshape(height, -1).astype(np.uint8), axis=1)
    lines = b"".join(b"\0" + row.tobytes() for row in packed)
    head = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    between = chunk(b"tRNS", clear) if clear else b""
    parts = chunk(b"IHDR", head), between, chunk(b"IDAT", zlib.compress(lines)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def tiff(
    numbers: np.ndarray,
    extra: int | None = None,
    *,
    order: str = "<",
    packed: bool = False,
    planes: bool = False,
) -> bytes:
    """Returns a TIFF of one strip, written by hand.

    Args:
        numbers: `h w c`, uint8, uint16 or float32.
        extra: What the fourth channel is, as the format counts.
        order: Of bytes, "<" or ">".
        packed: Compress the strip.
        planes: Say that there is one strip for each channel, although there is not.
    """
    height, width, count = numbers.shape
    bits, sort = 8 * numbers.itemsize, 3 if numbers.dtype.kind == "f" else 1
    strip = numbers.astype(numbers.dtype.newbyteorder(order)).tobytes()
    strip = zlib.compress(strip) if packed else strip
    entries = [(256, [width]), (257, [height]), (258, [bits] * count), (259, [8 if packed else 1])]
    entries += [(262, [2 if count > 2 else 1]), (273, [0]), (277, [count]), (278, [height])]
    entries += [(279, [len(strip)]), (284, [2 if planes else 1])]
    entries += [(338, [extra])] if extra is not None else []
    entries += [(339, [sort] * count)]
    end = 8 + 2 + 12 * len(entries) + 4
    entries[5] = (273, [end + sum(2 * len(values) for _, values in entries if len(values) > 2)])
    listed, beyond = b"", b""
    for tag, values in entries:
        long = tag in (256, 257, 273, 278, 279)
        data = struct.pack(f"{order}{len(values)}{'I' if long else 'H'}", *values)
        if len(data) > 4:
            where = end + len(beyond)
            beyond, data = beyond + data, struct.pack(f"{order}I", where)
        head = struct.pack(f"{order}HHI", tag, 4 if long else 3, len(values))
        listed += head + data.ljust(4, b"\0")
    start = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8)
    count_ = struct.pack(f"{order}H", len(entries))
    return start + count_ + listed + b"\0\0\0\0" + beyond + strip
