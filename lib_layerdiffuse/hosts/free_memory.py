"""What is free of a device's memory, where a host has no memory manager."""

from __future__ import annotations

import psutil
import torch


def free_bytes(device: torch.device) -> int | None:
    """Returns how many bytes are free of the system's memory; None of a device with its own."""
    if device.type not in ("cpu", "mps"):
        return None
    free: int = psutil.virtual_memory().available
    return free
