"""What a full memory is told as, where a network of ours needs it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ...errors import HostError


@contextmanager
def room_for(network: str) -> Iterator[None]:
    """Runs a network.

    Args:
        network: What it is called: "transparent decoder" or "transparent encoder".

    Raises:
        HostError: The device's memory does not suffice.
    """
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        raise HostError(
            f"Expected room for the {network}, but the memory is full.",
            "Choose a smaller size, or raise the inference memory at the top of the page.",
        ) from error
