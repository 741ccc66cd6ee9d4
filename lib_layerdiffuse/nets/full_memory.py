"""What is free of a device's memory, and how an error says that nothing is."""

from __future__ import annotations

import re
from collections.abc import Collection

import torch

_SAID_WHEN_FULL = re.compile(
    r"out of memory|not enough memory|can.?t allocate|could not allocate|alloc_failed",
    re.IGNORECASE,
)
"""What PyTorch's back ends say in a RuntimeError of no kind of its own."""

_ON_CPU = 1 << 30
"""Bytes that maps may take on a CPU: with more, what is kept costs more time than it saves."""
_UNKNOWN = 2 << 30
PORTION = 0.8
"""What maps may take of what is free: some of it lies in pieces, and strips need room, too."""


def room(device: torch.device, free: int | None = None) -> int:
    """Returns how many bytes the maps of a network may take on a device.

    Args:
        device: It.
        free: How many are free there; None to ask PyTorch, which knows it of CUDA's.
    """
    if free is None and device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        free = torch.cuda.mem_get_info(device)[0] + unused
    if device.type == "cpu":
        return _ON_CPU if free is None else min(_ON_CPU, free // 2)
    return _UNKNOWN if free is None else int(PORTION * free)


def is_memory_error(error: BaseException, types: Collection[type[BaseException]] = ()) -> bool:
    """Whether an error says that memory does not suffice.

    Args:
        error: What was raised.
        types: The host's own types for it. One that is every exception's tells nothing.
    """
    telling = [kind for kind in types if kind not in (Exception, BaseException)]
    if isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError, *telling)):
        return True
    return isinstance(error, RuntimeError) and bool(_SAID_WHEN_FULL.search(str(error)))


def let_go(error: BaseException | None) -> None:
    """Lets go of the frames that an error came through, which hold the attempt's tensors."""
    while error is not None:
        error.__traceback__ = None
        error = error.__context__
