"""Run lengths as in PackBits, which PSD files use.

Source: Apple Technical Note TN1023, "Understanding PackBits".
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

_MOST = 128
_RUN = 4
"""Shorter runs stand among the other values: they save less than their own start costs time."""


def packed_rows(plane: npt.NDArray[np.uint8]) -> Iterator[bytes]:
    """Yields each row of a plane `h w`, packed.

    A packet is `n - 1` and n values, or `257 - n` and one value that stands n times, n up to 128.
    """
    for row in plane:
        packed = bytearray()
        done = 0
        for start, end in _runs(row):
            _add_literals(packed, row[done:start].tobytes())
            _add_run(packed, int(row[start]), end - start)
            done = end
        _add_literals(packed, row[done:].tobytes())
        yield bytes(packed)


def _runs(row: npt.NDArray[np.uint8]) -> Iterator[tuple[int, int]]:
    """Yields start and end of each long run of equal values."""
    edges = np.concatenate([[0], np.flatnonzero(row[1:] != row[:-1]) + 1, [len(row)]])
    for index in np.flatnonzero(np.diff(edges) >= _RUN):
        yield int(edges[index]), int(edges[index + 1])


def _add_literals(packed: bytearray, values: bytes) -> None:
    for start in range(0, len(values), _MOST):
        part = values[start : start + _MOST]
        packed.append(len(part) - 1)
        packed += part


def _add_run(packed: bytearray, value: int, count: int) -> None:
    while count > 1:
        part = min(count, _MOST)
        packed += bytes([257 - part, value])
        count -= part
    if count:
        packed += bytes([0, value])
