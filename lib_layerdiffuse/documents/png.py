"""Pictures as PNG files."""

from __future__ import annotations

import io

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ..imaging.images import PictureU8


def png_bytes(pixels_u8: PictureU8, infotext: str = "") -> bytes:
    """Returns a picture, RGB or straight RGBA, as the bytes of a PNG file, not interlaced.

    Every value is kept, colours under alpha 0 too. The infotext stands where the WebUI puts and
    looks for it.
    """
    texts = PngInfo()
    if infotext:
        texts.add_text("parameters", infotext)
    with io.BytesIO() as stream:
        Image.fromarray(pixels_u8).save(stream, format="PNG", pnginfo=texts)
        return stream.getvalue()
