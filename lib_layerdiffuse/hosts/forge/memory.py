"""Networks of ours in the memory manager of the host.

The manager is given a shallow copy of a network, which shares its layers and knows nothing of the
patcher. So the network can keep its patcher, as the manager asks of those who want to stay loaded,
and the two are in no reference cycle: weights that nobody uses are gone at once, and do not wait
for Python's collector, which in a process as large as a WebUI's comes by too seldom.
"""

from __future__ import annotations

import copy

import torch
from backend import memory_management
from backend.patcher.base import ModelPatcher
from torch import nn

from ...nets.attention_sharing import AttentionSharing

OOM_EXCEPTION: type[BaseException] = memory_management.OOM_EXCEPTION
_BYTES_A_PIXEL = 3000  # Peak of the transparent decoder in float32, beside its weights.


def place(net: nn.Module, pixels: int, dtype: torch.dtype | None = None) -> None:
    """Loads a network onto the host's device.

    Args:
        net: A transparent decoder's or encoder's network.
        pixels: Pixels of the image to come, for which memory is made free.
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
    """Returns the network's one patcher, which lives as long as the network."""
    kept = vars(net).get("forge_patcher")
    if kept is None or kept.load_device != device:
        twin = copy.copy(net)
        vars(twin).pop("forge_patcher", None)
        kept = vars(net)["forge_patcher"] = ModelPatcher(twin, device, offload)
        vars(twin).pop("lora_loader", None)  # It refers to the twin; the patcher has it, too.
    return kept


def unload_sharing_but(used: nn.Module | None) -> None:
    """Unloads the sharing modules of earlier runs, which the manager would keep while it can."""
    kept = vars(used).get("forge_patcher") if used is not None else None
    loaded = memory_management.current_loaded_models
    for entry in list(loaded):
        if isinstance(entry.model.model, AttentionSharing) and entry.model is not kept:
            loaded.remove(entry)
            entry.model_unload(avoid_model_moving=True)
