"""Images as PNG files: the one writer, for every front end."""

from __future__ import annotations

import io
from collections.abc import Mapping
from types import MappingProxyType

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from .images import ImageU8

_INFOTEXT = "parameters"  # Where the WebUI puts an infotext, and looks for it.
_EFFORT = 4  # Of 9. The usual 6 takes four times as long for a megapixel, and saves nothing.
_NONE: Mapping[str, str] = MappingProxyType({})


def png_bytes(pixels_u8: ImageU8, infotext: str = "", *, texts: Mapping[str, str] = _NONE) -> bytes:
    """Returns an image, RGB or straight RGBA, as the bytes of a PNG file, not interlaced.

    Every number is kept, colours under alpha 0 too.

    Args:
        pixels_u8: `h w 3|4`.
        infotext: How the image was made, for the WebUI to find.
        texts: What else is written beside the pixels, by name. Empty texts are left out.
    """
    chunks = PngInfo()
    for name, text in {_INFOTEXT: infotext, **texts}.items():
        if text:
            chunks.add_text(name, text)
    with io.BytesIO() as stream:
        image = Image.fromarray(pixels_u8)
        image.save(stream, format="PNG", pnginfo=chunks, compress_level=_EFFORT)
        return stream.getvalue()
