"""ZIP files that depend on nothing but what is in them."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping

_FIRST_DAY = (1980, 1, 1, 0, 0, 0)
_MODE = 0o644 << 16


def packed(files: Mapping[str, bytes]) -> bytes:
    """Returns files, by name and in order, as the bytes of a ZIP file.

    Nothing is compressed, since PNGs are already. All have the same date, so that the same
    files give the same bytes.
    """
    with io.BytesIO() as stream:
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
            for name, data in files.items():
                entry = zipfile.ZipInfo(name, _FIRST_DAY)
                entry.external_attr = _MODE
                archive.writestr(entry, data)
        return stream.getvalue()
