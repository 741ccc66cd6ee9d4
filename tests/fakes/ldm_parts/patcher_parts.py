"""Where reForge and Forge Classic, or their stand-ins, keep what a small checkpoint is made of."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import ldm_patched.ldm.modules.attention
import torch
from ldm_patched.modules import lora, model_management, model_patcher, ops
from modules_forge import unet_patcher

memory, attention = model_management, ldm_patched.ldm.modules.attention
attention_function = attention.optimized_attention
ModelPatcher, UnetPatcher = model_patcher.ModelPatcher, unet_patcher.UnetPatcher
lora_class_owner = getattr(lora, "weight_adapter", None)
Linear: Any = ops.disable_weight_init.Linear
Conv2d: Any = ops.disable_weight_init.Conv2d
TELLS_OPTIONS = "transformer_options" in attention.CrossAttention.forward.__code__.co_varnames
"""Whether attention modules are called with the transformer's options."""

MERGE = (lora if hasattr(lora, "calculate_weight") else ModelPatcher), "calculate_weight"
"""What merges patches into a weight: its owner and its name there."""


def arrange(model: Any, first_stage: Any, schedule: Any) -> None:
    """Puts what knows the sigmas and what scales latents where this host has them."""
    model.model_sampling = schedule
    model.manual_cast_dtype, model.get_dtype = None, lambda: torch.float32
    ways = {name: getattr(first_stage, name) for name in ("process_in", "process_out")}
    model.latent_format = SimpleNamespace(**ways)
    first_stage.process_in = first_stage.process_out = None
