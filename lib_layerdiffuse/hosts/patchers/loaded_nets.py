"""Networks of ours in the memory manager of the host.

The manager is given a shallow copy of a network, which shares its layers and knows nothing of the
patcher. So the network can keep its patcher, as the manager asks of those who want to stay loaded,
and the two are in no reference cycle: weights that nobody uses are gone at once, and do not wait
for Python's collector, which in a process as large as a WebUI's comes by too seldom.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from ...nets.attention_sharing import AttentionSharing
from ...nets.full_memory import PORTION
from .dialect import Dialect

_BYTES_BESIDE = 640 << 20  # Strips of maps, and what convolutions take to work in.


def place(
    dialect: Dialect, net: nn.Module, values: int, dtype: torch.dtype | None = None, **more: Any
) -> int:
    """Loads a network onto the host's device, and returns how many bytes are free there then.

    Args:
        dialect: The host's.
        net: A transparent decoder's or encoder's network.
        values: How many values it will hold, for which memory is made free.
        dtype: The type to compute in; None for the host's choice.
        more: What its memory manager is told beside.
    """
    memory = dialect.memory
    device = memory.get_torch_device()
    if dtype is None:
        dtype = torch.float16 if memory.should_use_fp16(device) else torch.float32
    net.to(dtype)
    memory.load_models_gpu(
        [patcher(dialect, net, device, memory.unet_offload_device())],
        memory_required=int(values * dtype.itemsize / PORTION) + _BYTES_BESIDE,
        **more,
    )
    free: int = memory.get_free_memory(device)
    return free


def patcher(dialect: Dialect, net: nn.Module, device: torch.device, offload: torch.device) -> Any:
    """Returns the network's one patcher, which lives as long as the network."""
    kept = vars(net).get("host_patcher")
    if kept is None or kept.load_device != device:
        twin = copy.copy(net)
        vars(twin).pop("host_patcher", None)
        kept = vars(net)["host_patcher"] = dialect.patcher(twin, device, offload)
        vars(twin).pop("lora_loader", None)  # It refers to the twin; the patcher has it, too.
    return kept


def unload_sharing_but(dialect: Dialect, used: nn.Module | None) -> None:
    """Unloads the sharing modules of earlier runs, which the manager would keep while it can."""
    kept = vars(used).get("host_patcher") if used is not None else None
    loaded = dialect.memory.current_loaded_models
    for entry in list(loaded):
        held = entry.model  # None where the host holds it weakly, and nobody else does.
        if held is None or held is kept or not isinstance(held.model, AttentionSharing):
            continue
        # By identity: entries of the host's compare as equal where both hold nothing any more.
        del loaded[next(place for place, one in enumerate(loaded) if one is entry)]
        dialect.drop(entry)
