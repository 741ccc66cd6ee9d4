"""Where ComfyUI's stand-in keeps what a small checkpoint is made of."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import comfy.ldm.modules.attention
import managed_patcher
import torch
from comfy import lora, model_management, model_patcher, supported_models
from comfy.patcher_extension import WrapperExecutor, WrappersMP, get_all_wrappers
from torch import Tensor

memory, attention = model_management, comfy.ldm.modules.attention
attention_function = attention.optimized_attention
ModelPatcher = UnetPatcher = model_patcher.ModelPatcher
Linear, Conv2d = managed_patcher.Linear, managed_patcher.Conv2d
MERGE = lora, "calculate_weight"
TELLS_OPTIONS = True


def arrange(model: Any, first_stage: Any, schedule: Any) -> None:
    """Puts what knows the sigmas and what scales latents where this host has them."""
    model.model_sampling, model.current_patcher = schedule, None
    model.manual_cast_dtype, model.get_dtype = None, lambda: torch.float32
    ways = {name: getattr(first_stage, name) for name in ("process_in", "process_out")}
    model.latent_format = SimpleNamespace(**ways)
    first_stage.process_in = first_stage.process_out = None
    inner = model.apply_model

    def apply_model(
        x: Tensor,
        t: Tensor,
        c_concat: Any = None,
        c_crossattn: Any = None,
        control: Any = None,
        transformer_options: Any = None,
        **kwargs: Any,
    ) -> Tensor:
        def last(x: Tensor, t: Tensor, concat: Any, cross: Any, _: Any, options: Any) -> Tensor:
            return inner(x, t, concat, cross, options)

        options = transformer_options or {}
        wrappers = get_all_wrappers(WrappersMP.APPLY_MODEL, options)
        executor = WrapperExecutor(last, model, wrappers)
        return executor.execute(x, t, c_concat, c_crossattn, control, options, **kwargs)

    model.apply_model = apply_model


def configure(model: Any, family: str) -> None:
    """Makes a model one of a family, by the name that it has in `Arch` or here."""
    names = {"SD1.5": "SD15", "SD2": "SD20"}
    model.model_config = getattr(supported_models, names.get(family, family))()
