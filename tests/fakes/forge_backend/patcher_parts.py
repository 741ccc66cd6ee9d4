"""Where Forge and Forge Neo, or their stand-ins, keep what a small checkpoint is made of."""

from __future__ import annotations

from typing import Any

import backend.attention
import torch
from backend import memory_management, operations
from backend.patcher import base, lora, unet
from torch import nn

memory, lora_class_owner = memory_management, getattr(lora, "weight_adapter", None)
attention = backend.attention
attention_function = attention.attention_function
ModelPatcher, UnetPatcher = base.ModelPatcher, unet.UnetPatcher
_layers: Any = getattr(operations, "ForgeOperations", operations)
_host_has_own = _layers is operations or hasattr(_layers.Linear, "weight_function")
Linear: Any = _layers.Linear if _host_has_own else nn.Linear
Conv2d: Any = _layers.Conv2d if _host_has_own else nn.Conv2d
TELLS_OPTIONS = True
"""Whether attention modules are called with the transformer's options."""

_name = "merge_lora_to_weight"
MERGE = (base if hasattr(base, _name) else lora), _name
"""What merges patches into a weight: its owner and its name there."""


def arrange(model: Any, first_stage: Any, schedule: Any) -> None:
    """Puts what knows the sigmas where this host has it."""
    model.predictor, model.computation_dtype = schedule, torch.float32
