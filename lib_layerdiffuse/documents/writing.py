"""Documents into files: whole or not at all, and never over another file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..files.whole_files import write_new
from .archive import zip_bytes
from .document import Document
from .kinds import DocumentKind
from .openraster import ora_bytes
from .psd import psd_bytes

_WRITERS: dict[DocumentKind, Callable[[Document], bytes]] = {
    DocumentKind.PSD: psd_bytes,
    DocumentKind.ORA: ora_bytes,
    DocumentKind.ZIP: zip_bytes,
}


def write_document(
    path: Path, document: Document, kind: DocumentKind, *, trim: bool = False
) -> Path:
    """Writes a document and returns the path of the new file; makes the folder.

    Args:
        path: Wanted name. The kind's ending is added if it lacks it. If there is such a file, the
            next name that is free is taken: `a.psd`, `a-2.psd`, …
        document: What to write.
        kind: The kind of file.
        trim: Cut each layer to the bounds of its alpha. Otherwise every pixel is kept, colours
            under alpha 0 too.

    Raises:
        SettingsError: Nothing can be written there.
        ImageSizeError: It is too large for the kind.
    """
    data = _WRITERS[kind](document.trimmed() if trim else document)
    ending = f".{kind.value}"
    stem = path.name[: -len(ending)] if path.name.lower().endswith(ending) else path.name
    return write_new(path.with_name(stem + ending), data)
