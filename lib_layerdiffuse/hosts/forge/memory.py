"""Networks of ours in the memory manager of the host."""

from __future__ import annotations

from weakref import WeakSet

import torch
from backend import memory_management
from backend.patcher.base import ModelPatcher
from torch import nn

from ...nets.attention_sharing import AttentionSharing

_BYTES_A_PIXEL = 3000  # Peak of the transparent decoder in float32, beside its weights.
_patched: WeakSet[nn.Module] = WeakSet()


def place(net: nn.Module, pixels: int, dtype: torch.dtype | None = None) -> None:
    """Moves a network to the host's device.

    Args:
        net: A transparent decoder's or encoder's network.
        pixels: Pixels of the picture to come, for which memory is made free.
        dtype: The type to compute in; None for the host's choice.
    """
    device = memory_management.get_torch_device()
    if dtype is None:
        fast = memory_management.should_use_fp16(device)
        dtype = torch.float16 if fast else torch.float32
    net.to(dtype)
    memory_management.load_models_gpu(
        [patcher(net, device, memory_management.unet_offload_device())],
        memory_required=pixels * _BYTES_A_PIXEL // (1 if dtype is torch.float32 else 2),
    )


def patcher(net: nn.Module, device: torch.device, offload: torch.device) -> ModelPatcher:
    """Returns the network's one patcher; one that nobody keeps is dropped where it lies."""
    kept = vars(net).get("forge_patcher")
    if kept is None or kept.load_device != device:
        kept = vars(net)["forge_patcher"] = ModelPatcher(net, device, offload)
        _patched.add(net)
    return kept


def forget_sharing_but(used: nn.Module | None) -> None:
    """Lets go of the sharing modules of earlier runs, and so of their weights.

    The host's memory manager would keep them for as long as the device has room. And each is in a
    cycle with its patcher, and with the loader that the host gives a patched network; Python's
    collector may come across it only many jobs later.
    """
    loaded = memory_management.current_loaded_models
    for net in [one for one in _patched if isinstance(one, AttentionSharing) and one is not used]:
        for entry in [one for one in loaded if one.model.model is net]:
            loaded.remove(entry)
            entry.model_unload(avoid_model_moving=True)
        for name in ("forge_patcher", "lora_loader"):
            vars(net).pop(name, None)
        _patched.discard(net)
