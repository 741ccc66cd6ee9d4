"""One network on the device at a time; a network's device is told by its attribute `where`."""

from __future__ import annotations

from typing import Any

from torch import nn

module_in_gpu: Any = None
sent: list[nn.Module] = []


def send_everything_to_cpu() -> None:
    global module_in_gpu  # noqa: PLW0603 - as the host keeps it
    if module_in_gpu is not None:
        module_in_gpu.to("cpu")
        sent.append(module_in_gpu)
    module_in_gpu = None


def send_me_to_gpu(module: nn.Module, _: Any) -> None:
    global module_in_gpu  # noqa: PLW0603 - as the host keeps it
    if module_in_gpu is not module:
        send_everything_to_cpu()
        module_in_gpu = module
