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
ADOBE = np.array(
    [[0.60974, 0.20528, 0.14919], [0.31111, 0.62567, 0.06322], [0.01947, 0.06087, 0.74457]]
)
GAMMA = 2.19921875
"""Primaries at D50, and the power of light. Source: Adobe RGB (1998) Color Image Encoding."""
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


def profile(space: str, tags: dict[str, bytes], *, connection: str = "XYZ ") -> bytes:
    """Returns an ICC profile, written by hand as ICC.1:2001-04 says.

    Args:
        space: What its numbers are, in four letters.
        tags: Their content by name.
        connection: The space that they lead to.
    """
    kind = b"scnr" if space == "RGB " else b"prtr"
    listed, data = struct.pack(">I", len(tags)), b""
    for name, content in tags.items():
        padded = content + bytes(-len(content) % 4)
        where = 128 + 4 + 12 * len(tags) + len(data)
        listed += struct.pack(">4sII", name.encode(), where, len(content))
        data += padded
    size = 128 + len(listed) + len(data)
    head = struct.pack(
        ">I4sI4s4s4s12x4s24xI3I",
        size,
        b"",
        0x02400000,
        kind,
        space.encode(),
        connection.encode(),
        b"acsp",
        0,
        0xF6D6,
        0x10000,
        0xD32D,
    )
    return head.ljust(128, b"\0") + listed + data


def curve(gamma: float) -> bytes:
    """Returns a profile's curve that is a power."""
    return b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256))


def place(xyz: np.ndarray) -> bytes:
    """Returns a profile's primary."""
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(v * 65536) for v in xyz))


def matrix_profile(primaries=ADOBE, gamma=GAMMA):
    """Returns a profile of coloured light: primaries at D50, in columns, and a power."""
    tags = {f"{c}XYZ": place(primaries[:, i]) for i, c in enumerate("rgb")}
    return profile("RGB ", tags | {f"{c}TRC": curve(gamma) for c in "rgb"})


def png(
    numbers: np.ndarray, colour: int, bits: int, clear: bytes = b"", more: bytes = b""
) -> bytes:
    """Returns a PNG of whole rows of numbers, written by hand.

    Args:
        numbers: `h w` or `h w c`.
        colour: The kind of colour, as the format counts.
        bits: For each number.
        clear: The transparent colour.
        more: Chunks before it.
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
    parts = (
        chunk(b"IHDR", head),
        more + between,
        chunk(b"IDAT", zlib.compress(lines)),
        chunk(b"IEND", b""),
    )
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
