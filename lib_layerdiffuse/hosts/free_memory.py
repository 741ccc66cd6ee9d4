"""What is free of a device's memory, where a host has no memory manager, and giving it back."""

from __future__ import annotations

import ctypes
import platform

import psutil
import torch


def free_bytes(device: torch.device) -> int | None:
    """Returns how many bytes are free of the system's memory; None of a device with its own."""
    if device.type not in ("cpu", "mps"):
        return None
    free: int = psutil.virtual_memory().available
    return free


def give_back() -> None:
    """Gives the system what this process has freed and its C library keeps.

    glibc keeps what a thread frees for that thread's next needs. Jobs run in one thread or another,
    so that each of those would keep as much as a job takes.
    """
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
