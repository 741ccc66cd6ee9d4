"""Networks of ours in the memory manager of the host."""

from __future__ import annotations

import torch
from backend import memory_management
from backend.patcher.base import ModelPatcher
from torch import nn

from ...nets.attention_sharing import AttentionSharing

_BYTES_A_PIXEL = 3000  # Peak of the transparent decoder in float32, beside its weights.


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
    return kept


def forget_sharing_but(used: nn.Module | None) -> None:
    """Takes the sharing modules of earlier runs out of the host's memory manager.

    It would keep them, and their weights, for as long as the device has room.
    """
    loaded = memory_management.current_loaded_models
    for entry in [one for one in loaded if isinstance(one.model.model, AttentionSharing)]:
        if entry.model.model is not used:
            loaded.remove(entry)
            entry.model_unload(avoid_model_moving=True)
            vars(entry.model.model).pop("forge_patcher", None)  # They hold each other.
