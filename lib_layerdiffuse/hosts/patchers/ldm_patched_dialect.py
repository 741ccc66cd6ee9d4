"""The dialect of reForge and Forge Classic, whose package is called `ldm_patched`."""

from __future__ import annotations

from operator import attrgetter
from typing import Any

from ldm_patched.ldm.modules.attention import optimized_attention
from ldm_patched.modules import model_management
from ldm_patched.modules.model_patcher import ModelPatcher
from ldm_patched.modules.utils import tiled_scale
from modules_forge.unet_patcher import UnetPatcher

from .dialect import Dialect, computes_in
from .probing import Wanted, check_known

_OF_THE_PATCHER = ("memory_required", "unpatch_model")


def dialect() -> Dialect:
    """Returns how this host's patcher is spoken to.

    Raises:
        MissingCapabilityError: It lacks something, so it is not one that we know.
    """
    others: list[Wanted] = [(ModelPatcher, "ModelPatcher", _OF_THE_PATCHER)]
    if not hasattr(ModelPatcher, "partially_load"):  # Then each clone's patches are merged anew.
        others.append((model_management, "model_management", ("unload_model_clones",)))
    check_known(model_management, UnetPatcher, others)
    return Dialect(
        model_management,
        ModelPatcher,
        optimized_attention,
        tiled_scale,
        _lora(),
        schedule=attrgetter("model_sampling"),
        latents=attrgetter("unet.model.latent_format"),
        computes_in=computes_in,
    )


def _lora() -> Any:
    """Returns the class for a LoRA; None where a LoRA is a tuple."""
    try:
        from ldm_patched.modules.weight_adapter import LoRAAdapter
    except ImportError:
        return None
    return LoRAAdapter
