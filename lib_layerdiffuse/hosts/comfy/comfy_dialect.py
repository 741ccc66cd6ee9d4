"""ComfyUI's own code, as far as the adapter calls it; nothing else of the adapter imports it."""

from __future__ import annotations

from operator import attrgetter
from typing import Any

import torch
from comfy import model_management, model_patcher, supported_models, utils
from comfy.ldm.modules.attention import optimized_attention
from comfy.patcher_extension import WrappersMP
from comfy.weight_adapter import LoRAAdapter
from torch import nn

from ...methods import Arch
from ..patchers.dialect import computes_in
from ..patchers.probing import OF_THE_MEMORY, Wanted, check_has
from .comfy_parts import Comfy

_OF_THE_MEMORY = (*OF_THE_MEMORY, "loaded_models", "throw_exception_if_processing_interrupted")
_OF_THE_PATCHER = (
    "add_wrapper_with_key",
    "clone",
    "get_additional_models_with_key",
    "get_model_object",
    "get_wrappers",
    "memory_required",
    "partially_load",
    "set_additional_models",
    "unpatch_model",
)
_OF_THE_WRAPPERS = ("APPLY_MODEL", "OUTER_SAMPLE")


def dialect() -> Comfy:
    """Returns how this ComfyUI is spoken to.

    Raises:
        MissingCapabilityError: It lacks something, so it is not one that we know.
    """
    patcher = model_patcher.ModelPatcher
    wanted: list[Wanted] = [
        (model_management, "model_management", _OF_THE_MEMORY),
        (patcher, "ModelPatcher", _OF_THE_PATCHER),
        (WrappersMP, "WrappersMP", _OF_THE_WRAPPERS),
    ]
    check_has(wanted, patcher, "ComfyUI")
    return Comfy(
        model_management,
        _patcher,
        optimized_attention,
        utils.tiled_scale,
        LoRAAdapter,
        schedule=attrgetter("model_sampling"),
        latents=attrgetter("latent_format"),
        computes_in=computes_in,
        families={supported_models.SD15: Arch.SD15, supported_models.SDXL: Arch.SDXL},
        around_sampler=WrappersMP.OUTER_SAMPLE,
        around_unet=WrappersMP.APPLY_MODEL,
        bar=utils.ProgressBar,
    )


def _patcher(net: nn.Module, load_device: torch.device, offload_device: torch.device) -> Any:
    """Returns a network's patcher, of the class that ComfyUI has chosen when it started."""
    kind = getattr(model_patcher, "CoreModelPatcher", model_patcher.ModelPatcher)
    return kind(net, load_device, offload_device)
