# ruff: noqa: E402 - What is imported reads what is set before.
"""Small checkpoints in a real ComfyUI: the tensors of `shrunk_files`, in its own classes.

Importing this imports ComfyUI, which has to be on `sys.path`; it computes on the CPU.
"""

from __future__ import annotations

import sys
from functools import lru_cache
from typing import Any

import torch

sys.argv[1:] = []  # ComfyUI reads the command line as soon as it is imported.
from comfy.cli_args import args

args.cpu = True

import comfy.model_base
import comfy.model_detection
import comfy.model_patcher
import comfy.ops
import comfy.sample
import comfy.samplers
import comfy.sd
import comfy.supported_models
from comfy.ldm.modules.diffusionmodules.openaimodel import Timestep
from shrunk_files import UNET, method_tensors, random_tensors
from torch import Tensor

from lib_layerdiffuse.methods import Arch, LayerMethod

CPU = torch.device("cpu")
HEADS = {Arch.SD15: {"num_heads": 2}, Arch.SDXL: {"num_head_channels": 2}}
KINDS = {
    Arch.SD15: (comfy.supported_models.SD15, comfy.model_base.BaseModel),
    Arch.SDXL: (comfy.supported_models.SDXL, comfy.model_base.SDXL),
}
CONTEXT = {Arch.SD15: 24, Arch.SDXL: 64}


class TinyOperations(comfy.ops.disable_weight_init):
    """ComfyUI's layers, but for groups of channels, of which real checkpoints have 32."""

    class GroupNorm(comfy.ops.disable_weight_init.GroupNorm):
        def __init__(self, num_groups: int, *more: Any, **others: Any) -> None:
            super().__init__(2, *more, **others)


_tensors = lru_cache(random_tensors)


def tiny_model(arch: Arch) -> Any:
    """Returns a MODEL's patcher of a new checkpoint."""
    tensors = {k: v.clone() for k, v in _tensors(arch).items() if k.startswith(UNET)}
    found = comfy.model_detection.detect_unet_config(tensors, UNET)
    kind, base = KINDS[arch]
    config = kind(found)
    config.unet_config |= HEADS[arch] | {"dtype": torch.float32}
    config.custom_operations = TinyOperations
    model = base(config, device=CPU)
    model.load_model_weights(tensors, UNET)
    if arch is Arch.SDXL:
        model.embedder = Timestep(8)  # Of a picture's size, as wide as the rest.
    return comfy.model_patcher.ModelPatcher(model, CPU, CPU)


@lru_cache
def method_file(method: LayerMethod, seed: int = 0) -> dict[str, Tensor]:
    """Returns a method's tensors that fit the small checkpoints."""
    return method_tensors(method, seed, 1.0 if method.uses_control else 0.3)


def noise(*shape: int, seed: int = 3) -> Tensor:
    """Returns seeded noise."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def conditioning(arch: Arch, rows: int = 1, seed: int = 0, tokens: int = 77) -> list[Any]:
    """Returns a CONDITIONING of seeded numbers, of one entry with so many rows."""
    more = {"pooled_output": noise(rows, 40, seed=seed + 50), "width": 64, "height": 64}
    return [[noise(rows, tokens, CONTEXT[arch], seed=seed), more]]


@lru_cache
def tiny_vae() -> Any:
    """Returns a VAE whose network is an ordinary one of four latent channels, and random."""
    ddconfig = {
        "double_z": True,
        "z_channels": 4,
        "resolution": 64,
        "in_channels": 3,
        "out_ch": 3,
        "ch": 32,
        "ch_mult": [1, 1, 1, 1],
        "num_res_blocks": 1,
        "attn_resolutions": [],
        "dropout": 0.0,
    }
    given = {"ddconfig": ddconfig, "embed_dim": 4}
    net = comfy.ldm.models.autoencoder.AutoencoderKL(**given)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        tensors = {name: torch.randn(t.shape) / 8 for name, t in net.state_dict().items()}
    return comfy.sd.VAE(sd=tensors, config={"params": given})


def sample(
    model: Any,
    arch: Arch,
    *,
    batch: int = 1,
    steps: int = 4,
    cfg: float = 3.0,
    positive: list[Any] | None = None,
    negative: list[Any] | None = None,
    latent: Tensor | None = None,
    size: tuple[int, int] = (8, 8),
    **more: Any,
) -> Tensor:
    """Returns the LATENT that ComfyUI's sampler makes; `more` is what its `sample` takes.

    Args:
        model: The MODEL.
        arch: Its family.
        batch: Rows of the latent.
        steps: Of the schedule.
        cfg: The guidance.
        positive: Conditioning, likewise `negative`; None for one row each.
        latent: What it starts from; None for an empty one.
        size: Height and width in latent pixels, where it is empty.
    """
    empty = torch.zeros(batch, 4, *size)
    given = noise(batch, 4, *size) * more.pop("noise_of", 1.0)
    return comfy.sample.sample(
        model,
        given,
        steps,
        cfg,
        more.pop("sampler", "euler"),
        "normal",
        positive or conditioning(arch, seed=1),
        negative or conditioning(arch, seed=2),
        empty if latent is None else latent,
        seed=7,
        disable_pbar=True,
        **more,
    )
