"""Which kinds of image files are let in, and what a file of another kind is called."""

from __future__ import annotations

from collections.abc import Mapping, Set
from pathlib import Path

from PIL import Image

_LET_IN = {
    "PNG": "PNG",
    "JPEG": "JPEG",
    "WEBP": "WebP",
    "AVIF": "AVIF",
    "TIFF": "TIFF",
    "BMP": "BMP",
    "GIF": "GIF",
}
MULTI_JPEG = "MPO"
"""What Pillow calls a JPEG that holds more than one image; it opens them as JPEG."""

_MODES_WITH_ALPHA = ("RGBA", "RGBa", "LA", "La", "PA")

HEAD = 16
"""How many of a file's first bytes tell its kind."""

# Where the mark of each kind stands.
_MARKS = (
    (0, b"\x89PNG", "PNG"),
    (0, b"\xff\xd8\xff", "JPEG"),
    (8, b"WEBP", "WebP"),
    (4, b"ftypavi", "AVIF"),
    (0, b"II*\0", "TIFF"),
    (0, b"MM\0*", "TIFF"),
    (0, b"BM", "BMP"),
    (0, b"GIF8", "GIF"),
    (0, b"%PDF", "PDF"),
    (0, b"8BPS", "Photoshop"),
    (0, b"gimp xcf", "GIMP"),
    (0, b"PK\3\4", "ZIP, OpenRaster or Krita"),
    (4, b"ftyphei", "HEIC"),
    (4, b"ftypmif1", "HEIC"),
    (4, b"ftyp", "a video"),
    (4, b"JXL ", "JPEG XL"),
    (0, b"\xff\x0a", "JPEG XL"),
    (4, b"jP  ", "JPEG 2000"),
    (0, b"v/1\1", "OpenEXR"),
    (0, b"#?RADIANCE", "Radiance HDR"),
    (0, b"%!PS", "EPS"),
    (0, b"<svg", "SVG"),
    (0, b"<?xml", "XML or SVG"),
    (0, b"<!DOCTYPE", "a web page"),
    (0, b"<!doctype", "a web page"),
    (0, b"<html", "a web page"),
    (0, b"\0\0\1\0", "an icon"),
)


def formats() -> Mapping[str, str]:
    """Returns what is let in and can be decoded here: Pillow's name for it, and people's."""
    known = set(Image.registered_extensions().values())
    return {name: called for name, called in _LET_IN.items() if name in known}


def suffixes() -> Set[str]:
    """Returns what the names of such files end in, such as ".png"."""
    known = formats()
    return {end for end, name in Image.registered_extensions().items() if name in known}


def has_alpha(path: Path) -> bool:
    """Returns whether an image file says anything of transparency, be it that there is none.

    Args:
        path: A file that can be read as an image.
    """
    with Image.open(path, formats=tuple(formats())) as image:
        return image.mode in _MODES_WITH_ALPHA or "transparency" in image.info


def kind_of(head: bytes) -> str:
    """Returns what a file that begins so is called, such as "PDF"; "" for an unknown kind."""
    return next((kind for at, mark, kind in _MARKS if head.startswith(mark, at)), "")
