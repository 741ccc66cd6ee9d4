"""Out of memory in a network of ours, told in words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ...errors import HostError


@contextmanager
def memory_errors_explained(network: str) -> Iterator[None]:
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
            f"The memory is full: the {network} does not fit.",
            "Choose a smaller size, or raise the inference memory at the top of the page.",
        ) from error
