"""Documents as PNGs in a ZIP file, with a JSON that says how they lie."""

from __future__ import annotations

import json
import re
from typing import Any

from ..imaging.png import png_bytes
from .document import Document, DocumentLayer
from .package import packed

LIST_NAME = "layers.json"
_VERSION = 1


def zip_bytes(document: Document) -> bytes:
    """Returns the document as the bytes of a ZIP file.

    The PNGs are numbered from the bottom up; they keep their straight alpha, every colour under
    it, and their infotexts. `layers.json` has the canvas and each layer's file, name, place,
    visibility, opacity and infotext, in the same order.
    """
    files = {_file_name(i, layer): layer for i, layer in enumerate(document.layers, 1)}
    listed = {
        "version": _VERSION,
        "width": document.width,
        "height": document.height,
        "alpha": "straight",
        "order": "bottom to top",
        "layers": [_entry(name, layer) for name, layer in files.items()],
    }
    text = json.dumps(listed, ensure_ascii=False, indent=2)
    images = {name: png_bytes(layer.image, layer.infotext) for name, layer in files.items()}
    return packed({LIST_NAME: text.encode(), **images})


def _file_name(number: int, layer: DocumentLayer) -> str:
    """Returns a name that every file system takes; the number makes it the only one."""
    words = re.findall(r"[^\W_]+", layer.name)
    return "-".join([f"{number:02}", *words])[:64] + ".png"


def _entry(name: str, layer: DocumentLayer) -> dict[str, Any]:
    return {
        "file": name,
        "name": layer.name,
        "left": layer.left,
        "top": layer.top,
        "width": layer.width,
        "height": layer.height,
        "has_alpha": layer.has_alpha,
        "visible": layer.visible,
        "opacity": layer.opacity,
        "infotext": layer.infotext,
    }
