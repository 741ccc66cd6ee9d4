"""Memory that a process has freed goes back to the system."""

from __future__ import annotations

import platform
from threading import Thread

import psutil
import pytest
import torch

from lib_layerdiffuse.hosts.free_memory import give_back

MIB = 2**20


def taken() -> int:
    rss: int = psutil.Process().memory_info().rss
    return rss


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library keeps none")
def test_what_a_thread_has_freed_is_given_back() -> None:
    kept: list[torch.Tensor] = []

    def work() -> None:
        torch.zeros(30 * MIB, dtype=torch.uint8)  # From now on smaller ones are the library's.
        large = []
        for _ in range(100):
            large.append(torch.zeros(MIB, dtype=torch.uint8))
            kept.append(torch.zeros(MIB // 64, dtype=torch.uint8))  # It lies between the others.

    thread = Thread(target=work)
    thread.start()
    thread.join()
    before = taken()
    give_back()
    assert before - taken() > 80 * MIB
    assert len(kept) == 100
