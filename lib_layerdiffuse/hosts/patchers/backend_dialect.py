"""The dialect of Forge and Forge Neo, whose package is called `backend`."""

from __future__ import annotations

from operator import attrgetter

from backend import memory_management
from backend.attention import attention_function
from backend.patcher import lora as lora_module
from backend.patcher.base import ModelPatcher
from backend.patcher.unet import UnetPatcher
from backend.patcher.vae import tiled_scale

from .dialect import Dialect
from .probing import Wanted, check_known


def dialect() -> Dialect:
    """Returns how this host's patcher is spoken to.

    Raises:
        MissingCapabilityError: It lacks something, so it is not one that we know.
    """
    others: list[Wanted] = []
    adapters = getattr(lora_module, "weight_adapter", None)
    if not hasattr(lora_module, "LoraLoader"):  # Then the memory manager merges.
        others.append((ModelPatcher, "ModelPatcher", ("partially_load", "unpatch_model")))
        others.append((adapters, "weight_adapter", ("LoRAAdapter",)))
    check_known(memory_management, UnetPatcher, others)
    return Dialect(
        memory_management,
        ModelPatcher,
        attention_function,
        tiled_scale,
        getattr(adapters, "LoRAAdapter", None),
        schedule=attrgetter("predictor"),
        latents=attrgetter("vae.first_stage_model"),
        computes_in=attrgetter("computation_dtype"),
    )
