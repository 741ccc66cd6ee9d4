"""The kinds of files that hold several layers. Needs nothing but Python."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum

from ..errors import unknown_name


class DocumentKind(str, Enum):
    """A kind of file; the value is its short name and the end of its file names."""

    PSD = "psd"
    ORA = "ora"
    ZIP = "zip"

    @property
    def label(self) -> str:
        """Its name for people."""
        return {"psd": "PSD", "ora": "OpenRaster", "zip": "ZIP of PNGs"}[self.value]


def find_kinds(names: Iterable[object]) -> tuple[DocumentKind, ...]:
    """Returns the kinds called so, by short name or label in any case; each once, in order.

    Raises:
        SettingsError: There is no such kind.
    """
    return tuple(dict.fromkeys(_find(name) for name in names))


def _find(name: object) -> DocumentKind:
    wanted = str(name.value if isinstance(name, DocumentKind) else name).strip().lower()
    names = {known: kind for kind in DocumentKind for known in (kind.value, kind.label.lower())}
    if wanted not in names:
        raise unknown_name("kind of layer file", name, names)
    return names[wanted]
