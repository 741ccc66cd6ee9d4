"""Documents as Photoshop files (PSD, version 1), RGB with 8 bits per channel.

Source: Adobe Photoshop File Formats Specification, November 2019.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from ..errors import ImageSizeError
from ..imaging.images import ImageU8, flatten, from_u8, to_u8
from .document import Document, DocumentLayer, is_opaque
from .packbits import packed_rows

Plane = npt.NDArray[np.uint8]

_MOST_PIXELS = 30_000
_RGB, _DEPTH, _RLE = 3, 8, 1
_HIDDEN = 1 << 1
_HAS_HIDDEN_BIT = 1 << 3
_TRANSPARENCY = -1
_RESOLUTION_INFO, _VERSION_INFO = 1005, 1057
_DPI, _PER_INCH, _INCHES = 72, 1, 1
_WRITER = "LayerDiffuse"


def psd_bytes(document: Document) -> bytes:
    """Returns the document as the bytes of a PSD file.

    Layers keep their straight alpha and every colour under it. The merged image, which
    programs show that know no layers, is flattened on white as Photoshop does, with the merged
    alpha as its fourth channel; without a fourth channel where it is opaque.

    Raises:
        ImageSizeError: The canvas or a layer is larger than the format allows.
    """
    _check_sizes(document)
    rgba = document.merged()
    on_white = to_u8(flatten(from_u8(rgba), 1.0))
    transparent = not is_opaque(rgba)
    planes = [*_planes(on_white), *([rgba[..., 3]] if transparent else [])]
    header = struct.pack(
        ">4sH6xHIIHH", b"8BPS", 1, len(planes), document.height, document.width, _DEPTH, _RGB
    )
    layers = _layer_info(document.layers, transparent)
    no_palette, no_global_mask = _sized(b""), _sized(b"")
    return b"".join(
        [
            header,
            no_palette,
            _sized(_resources()),
            _sized(_sized(layers) + no_global_mask),
            _compressed(planes),
        ]
    )


def _check_sizes(document: Document) -> None:
    sides = [document.width, document.height]
    for layer in document.layers:
        sides += [layer.width, layer.height]
    if max(sides) > _MOST_PIXELS:
        raise ImageSizeError(
            f"A PSD file holds at most {_MOST_PIXELS} pixels to each side, but there are "
            f"{max(sides)}.",
            "Choose OpenRaster.",
        )


def _planes(image_u8: ImageU8) -> list[Plane]:
    return [np.ascontiguousarray(image_u8[..., c]) for c in range(image_u8.shape[2])]


def _sized(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def _padded(data: bytes, multiple: int) -> bytes:
    return data + bytes(-len(data) % multiple)


def _resources() -> bytes:
    fixed = _DPI << 16
    resolution = struct.pack(">IHHIHH", fixed, _PER_INCH, _INCHES, fixed, _PER_INCH, _INCHES)
    # Version 1, with a merged image that is right, by whom written, for whom, file version 1.
    version = struct.pack(">IB", 1, 1) + 2 * _unicode(_WRITER) + struct.pack(">I", 1)
    return _resource(_RESOLUTION_INFO, resolution) + _resource(_VERSION_INFO, version)


def _resource(key: int, data: bytes) -> bytes:
    no_name = bytes(2)
    return b"8BIM" + struct.pack(">H", key) + no_name + _padded(_sized(data), 2)


def _unicode(text: str) -> bytes:
    """Returns a text with the number of its UTF-16 units before it."""
    encoded = text.encode("utf-16-be")
    return struct.pack(">I", len(encoded) // 2) + encoded


def _layer_info(layers: Iterable[DocumentLayer], transparent: bool) -> bytes:
    """Returns the layers' records, bottom first, then their pixels.

    Args:
        layers: From bottom to top.
        transparent: Whether the merged image's fourth channel is alpha, said by the sign of the
            count.
    """
    records, pixels = [], []
    for number, layer in enumerate(layers, 1):
        # Each channel fills a whole number of byte pairs: some readers expect it.
        channels = [_padded(_compressed([plane]), 2) for plane in _planes(layer.image)]
        records.append(_record(layer, channels, number))
        pixels += channels
    count = -len(records) if transparent else len(records)
    return _padded(b"".join([struct.pack(">h", count), *records, *pixels]), 2)


def _record(layer: DocumentLayer, channels: list[bytes], number: int) -> bytes:
    bottom, right = layer.top + layer.height, layer.left + layer.width
    ids = (0, 1, 2, _TRANSPARENCY)[: len(channels)]
    sizes = [struct.pack(">hI", key, len(data)) for key, data in zip(ids, channels, strict=True)]
    flags = _HAS_HIDDEN_BIT | (0 if layer.visible else _HIDDEN)
    no_mask, no_ranges = _sized(b""), _sized(b"")
    name = b"8BIMluni" + _sized(_padded(_unicode(layer.name), 4))
    own_number = b"8BIMlyid" + _sized(struct.pack(">I", number))  # No two layers share it.
    extra = no_mask + no_ranges + _short_name(layer.name) + name + own_number
    return b"".join(
        [
            struct.pack(">iiiiH", layer.top, layer.left, bottom, right, len(channels)),
            *sizes,
            b"8BIMnorm",
            struct.pack(">BBBx", round(layer.opacity * 255), 0, flags),
            _sized(extra),
        ]
    )


def _short_name(name: str) -> bytes:
    """Returns the name for programs that know no Unicode, "?" for what Mac Roman lacks."""
    encoded = name.encode("mac_roman", "replace")[:255]
    return _padded(bytes([len(encoded)]) + encoded, 4)


def _compressed(planes: list[Plane]) -> bytes:
    """Returns planes `h w` of one size: how they are compressed, all rows' lengths, all rows."""
    rows = [row for plane in planes for row in packed_rows(plane)]
    lengths = struct.pack(f">{len(rows)}H", *map(len, rows))
    return struct.pack(">H", _RLE) + lengths + b"".join(rows)
