"""Documents as OpenRaster files, for Krita, GIMP, MyPaint and others.

Source: the OpenRaster specification, version 0.0.5, https://www.openraster.org/.
"""

from __future__ import annotations

from xml.etree import ElementTree

from ..imaging.images import ImageU8, ResizeMode, fit, from_u8, to_u8
from ..imaging.png import png_bytes
from .document import Document
from .package import packed

_THUMBNAIL_SIDE = 256
_DPI = 72


def ora_bytes(document: Document) -> bytes:
    """Returns the document as the bytes of an OpenRaster file.

    Layers keep their straight alpha and every colour under it.
    """
    files = {f"data/layer{i:03}.png": layer for i, layer in enumerate(document.layers)}
    merged = document.merged()
    return packed(
        {
            # First and not compressed, so that programs find it at a fixed place.
            "mimetype": b"image/openraster",
            "stack.xml": _stack(document, list(files)),
            **{name: png_bytes(layer.image, layer.infotext) for name, layer in files.items()},
            "mergedimage.png": png_bytes(merged),
            "Thumbnails/thumbnail.png": png_bytes(_thumbnail(merged)),
        }
    )


def _stack(document: Document, files: list[str]) -> bytes:
    """Returns the list of layers as XML, the topmost first.

    Args:
        document: The document.
        files: Where its layers are, from bottom to top.
    """
    size = {"w": str(document.width), "h": str(document.height)}
    image = ElementTree.Element(
        "image", {"version": "0.0.5", **size, "xres": str(_DPI), "yres": str(_DPI)}
    )
    stack = ElementTree.SubElement(image, "stack")
    for layer, file in reversed(list(zip(document.layers, files, strict=True))):
        attributes = {
            "name": layer.name,
            "src": file,
            "x": str(layer.left),
            "y": str(layer.top),
            "opacity": f"{layer.opacity:.6f}",
            "visibility": "visible" if layer.visible else "hidden",
            "composite-op": "svg:src-over",
        }
        ElementTree.SubElement(stack, "layer", attributes)
    data: bytes = ElementTree.tostring(image, encoding="UTF-8", xml_declaration=True)
    return data


def _thumbnail(merged_u8: ImageU8) -> ImageU8:
    """Returns the image inside 256 x 256, never enlarged."""
    height, width = merged_u8.shape[:2]
    scale = min(1.0, _THUMBNAIL_SIDE / max(width, height))
    wide, tall = (max(1, round(side * scale)) for side in (width, height))
    return to_u8(fit(from_u8(merged_u8), wide, tall, ResizeMode.STRETCH))
