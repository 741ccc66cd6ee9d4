"""Where each WebUI keeps the loaded model's parts, for the probe."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import torch
from modules import sd_models, shared

_MEMORY = ("backend.memory_management", "ldm_patched.modules.model_management")


def first_of(*names: str) -> Any | None:
    """Returns the first of these modules that the WebUI has, or None."""
    for name in names:
        try:
            return import_module(name)
        except ImportError:
            continue
    return None


def memory_manager() -> Any | None:
    """Returns the module that brings networks to the device; None where they move by themselves."""
    return first_of(*_MEMORY)


def unet_wrapper() -> torch.nn.Module | None:
    """Returns what applies the UNet, `diffusion_model`; None while no model is loaded."""
    objects = getattr(shared.sd_model, "forge_objects", None)
    return getattr(shared.sd_model, "model", None) if objects is None else objects.unet.model


def vae() -> torch.nn.Module:
    """Returns the VAE's network."""
    objects = getattr(shared.sd_model, "forge_objects", None)
    return (shared.sd_model if objects is None else objects.vae).first_stage_model


def load_vae() -> None:
    """Loads the chosen checkpoint and brings its VAE to the device."""
    if hasattr(sd_models, "forge_model_reload"):
        sd_models.forge_model_reload()
    manager = memory_manager()
    if manager is not None:
        manager.load_models_gpu([shared.sd_model.forge_objects.vae.patcher])


def vae_factor() -> float:
    """Returns the factor between the VAE's and the sampler's latents."""
    if hasattr(vae(), "scaling_factor"):
        return float(vae().scaling_factor)
    owner = getattr(unet_wrapper(), "latent_format", shared.sd_model)
    return float(owner.scale_factor)
