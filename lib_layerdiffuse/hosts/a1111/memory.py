"""Where networks are in A1111, which has no memory manager.

With --medvram and --lowvram the host keeps one network on the device and notes which; before it
brings another one, it sends that one back to the CPU.
"""

from __future__ import annotations

from typing import Any

import torch
from modules import devices, lowvram
from torch import nn


def is_scarce(sd_model: Any) -> bool:
    """Whether the host keeps all but one network of the checkpoint on the CPU."""
    return bool(getattr(sd_model, "lowvram", False))


def place(sd_model: Any, net: nn.Module, dtype: torch.dtype | None = None) -> None:
    """Loads a network of ours onto the host's device.

    Where memory is scarce it takes the place of the host's network that is there, and the host
    sends it back to the CPU when it needs that place itself.

    Args:
        sd_model: The loaded checkpoint.
        net: The network.
        dtype: The type to compute in; None for the host's choice.
    """
    scarce = is_scarce(sd_model)
    if scarce and lowvram.module_in_gpu is not net:
        lowvram.send_everything_to_cpu()
        devices.torch_gc()
    net.to(device=devices.device, dtype=dtype or _best_dtype())
    if scarce:
        lowvram.module_in_gpu = net


def bring(sd_model: Any, net: nn.Module) -> None:
    """Brings a network of the checkpoint to the device where memory is scarce.

    The host does so before the network's `forward`, `encode` and `decode`, and not for its parts.
    """
    if is_scarce(sd_model):
        for hook in net._forward_pre_hooks.values():
            hook(net, ())


def _best_dtype() -> torch.dtype:
    return torch.float32 if devices.device.type == "cpu" else devices.dtype
