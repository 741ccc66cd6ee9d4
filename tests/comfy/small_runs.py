"""Small checkpoints with a method, and what has to be true of them after a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import comfy.model_management
import comfy.samplers
import comfy.supported_models
import torch
from host_run import injection
from tiny_comfy import method_file, sample
from torch import Tensor

from lib_layerdiffuse.errors import LayerDiffuseError
from lib_layerdiffuse.hosts.comfy import ComfyHost
from lib_layerdiffuse.hosts.comfy.comfy_dialect import dialect
from lib_layerdiffuse.methods import Arch, LayerMethod, find_method

COMFY = dialect()
JOINT, CONTROL = find_method("joint_sd15"), find_method("bg_to_fg_sd15")
SDXL_FG, WIDER = find_method("fg_attn_sdxl"), find_method("fg_blended_to_bg_sdxl")
QUERIES = "diffusion_model.input_blocks.4.1.transformer_blocks.0.attn1.to_q.weight"
CONV_IN = "diffusion_model.input_blocks.0.0.weight"
Interrupt = comfy.model_management.InterruptProcessingException
Sdxl = comfy.supported_models.SDXL


def attached(model: Any, method: LayerMethod, **more: Any) -> Any:
    """Returns a MODEL with a method's small file on it."""
    host = ComfyHost(COMFY, model)
    host.check(method)
    return host.attach(injection(method, file=method_file, **more)).unet


def bits(model: Any) -> dict[str, Tensor]:
    """Returns a copy of the UNet's weights."""
    return {key: value.clone() for key, value in model.model.state_dict().items()}


def assert_nothing_left(model: Any, before: dict[str, Tensor], plain: Tensor, **run: Any) -> None:
    """Checks that a MODEL without a method samples bit for bit as before, in the same weights."""
    arch = Arch.SDXL if isinstance(model.model.model_config, Sdxl) else Arch.SD15
    assert torch.equal(sample(model, arch, **run), plain)
    now = model.model.state_dict()
    assert list(now) == list(before)
    assert all(torch.equal(now[key], value) for key, value in before.items())
    for name, module in model.model.named_modules():
        assert "forward" not in vars(module), name
        assert not [*module._forward_hooks, *module._forward_pre_hooks], name


def expect(kind: type[LayerDiffuseError], said: str, run: Callable[[], Any]) -> None:
    """Checks that something is refused, in words."""
    text = ""
    try:
        run()
    except kind as error:
        text = str(error)
    assert said in text, text or f"not refused: {said}"
    assert not any(word in text for word in ("WebUI", "extension", "job")), text


def first_below(model: Any, steps: int) -> int:
    """Returns the first step whose sigma is below that of the half of the schedule."""
    end = model.get_model_object("model_sampling").percent_to_sigma(0.5)
    sampling = model.get_model_object("model_sampling")
    sigmas = comfy.samplers.calculate_sigmas(sampling, "normal", steps)
    return next(step for step, sigma in enumerate(sigmas) if sigma < end)


def users(model: Any) -> dict[str, Any]:
    """Returns a user's LoRA that changes attention and the first convolution."""
    generator = torch.Generator().manual_seed(21)
    weights = model.model.state_dict()
    return {
        key: ("diff", (torch.randn(weights[key].shape, generator=generator) / 8,))
        for key in (QUERIES, CONV_IN)
    }


def with_lora(model: Any, patches: dict[str, Any]) -> Any:
    """Returns a MODEL as Load LoRA gives it."""
    unet = model.clone()
    assert set(unet.add_patches(patches, 1.0)) == set(patches)
    return unet


def interrupted(model: Any, arch: Arch, **run: Any) -> bool:
    """Whether sampling ends by an interrupt."""
    try:
        sample(model, arch, **run)
    except Interrupt:
        return True
    return False
