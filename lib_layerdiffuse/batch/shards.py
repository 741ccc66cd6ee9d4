"""A run's files as WebDataset shards: tar files in which a row's files stand side by side.

A row is a sample: `ID.json`, `ID.0.fg.png`, … Source: the format of the library webdataset, which
takes what stands before a name's first point as the sample's key.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from .places import Place
from .results import line_of

SHARDS = "shards"
_SIZE = 256 * 2**20
"""Bytes of files from which a shard is full."""


def write_shards(place: Place, rows: Iterable[Mapping[str, Any]], size: int = _SIZE) -> int:
    """Returns how many shards there are of the rows that are done; the same rows, the same bytes.

    Args:
        place: Where the files are, and the shards are written.
        rows: What is told of each row, in order.
        size: Bytes of files from which a shard is full.

    Raises:
        OutputError: Something cannot be read or written.
    """
    count = 0
    for count, data in enumerate(_shards(place, rows, size), 1):
        place.put(_name(count - 1), data)
    stale = count
    while place.has(_name(stale)):  # Of an earlier run with more of them.
        place.remove(_name(stale))
        stale += 1
    return count


def _name(number: int) -> str:
    return f"{SHARDS}/{number:06}.tar"


def _shards(place: Place, rows: Iterable[Mapping[str, Any]], size: int) -> Iterator[bytes]:
    members: list[tuple[str, bytes]] = []
    held = 0
    for row in rows:
        if row["error"]:
            continue
        members.append((f"{row['id']}.json", line_of(row)))
        for one in row["files"]:
            data = place.get(one["file"])
            members.append((f"{row['id']}.{_ending(one)}", data))
            held += len(data)
        if held >= size:
            yield _tar(members)
            members, held = [], 0
    if members:
        yield _tar(members)


def _ending(told: Mapping[str, Any]) -> str:
    if "kind" in told:
        return f"{told['set']}.layers.{told['kind']}"
    extra = f".{told['extra']}" if "extra" in told else ""
    return f"{told['set']}.{told['layer']}{extra}.png"


def _tar(members: Iterable[tuple[str, bytes]]) -> bytes:
    with io.BytesIO() as stream:
        with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as archive:
            for name, data in members:
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))
        return stream.getvalue()
