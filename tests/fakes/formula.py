"""Numbers that look random and are the same everywhere, from a name and integer arithmetic.

Golden files need not hold weights made so; `tests/golden/original/README.md` gives the formula.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

MATRIX_GAIN, KERNEL_GAIN = 1.5, 3.0  # These keep what flows through near 1.

Shape = tuple[int, ...]


def numbers(name: str, shape: Shape) -> Tensor:
    """Returns float32 numbers in [-1, 1), each a multiple of 2⁻²³."""
    x = np.arange(math.prod(shape), dtype=np.uint32) * np.uint32(0x9E3779B1)
    x += np.uint32(zlib.crc32(name.encode()))
    for _ in range(2):
        x ^= x >> np.uint32(16)
        x *= np.uint32(0x045D9F3B)
    x ^= x >> np.uint32(16)
    signed = (x >> np.uint32(8)).astype(np.float32) * np.float32(2**-23) - np.float32(1)
    return torch.from_numpy(signed).reshape(shape)


def weight(name: str, shape: Shape) -> Tensor:
    """Returns a layer's weight or bias, float32; a norm's weight is about 1."""
    u = numbers(name, shape)
    if len(shape) > 1:
        gain = KERNEL_GAIN if len(shape) == 4 else MATRIX_GAIN
        return u * np.float32(gain / math.sqrt(math.prod(shape[1:])))
    return u * 0.5 + (1.0 if name.endswith("weight") else 0.0)


def weights(shapes: Mapping[str, Shape]) -> dict[str, Tensor]:
    """Returns `weight` of each name."""
    return {name: weight(name, tuple(shape)) for name, shape in shapes.items()}
