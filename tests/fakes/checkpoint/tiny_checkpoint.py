"""A checkpoint with small random networks, under the names that real ones have.

The UNet has the 32 attention modules of SD1.5 at their places; it is no diffusion model.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import torch
from patcher_parts import (
    TELLS_OPTIONS,
    Conv2d,
    Linear,
    ModelPatcher,
    UnetPatcher,
    arrange,
    attention_function,
    memory,
)
from torch import Tensor, nn
from torch.nn import functional as F

CHANNELS, CONTEXT, HEADS, TOKENS = 16, 12, 2, 3


class CrossAttention(nn.Module):
    def __init__(self, context: int) -> None:
        super().__init__()
        self.heads = HEADS
        self.to_q = Linear(CHANNELS, CHANNELS, bias=False)
        self.to_k, self.to_v = (Linear(context, CHANNELS, bias=False) for _ in range(2))
        self.to_out = nn.Sequential(Linear(CHANNELS, CHANNELS), nn.Dropout(0))

    def forward(
        self,
        x: Tensor,
        context: Tensor | None = None,
        value: Tensor | None = None,
        mask: Tensor | None = None,
        transformer_options: Any = None,
    ) -> Tensor:
        context = x if context is None else context
        q, k = self.to_q(x), self.to_k(context)
        v = self.to_v(context if value is None else value)
        return self.to_out(attention_function(q, k, v, self.heads, mask))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attn1, self.attn2 = CrossAttention(CHANNELS), CrossAttention(CONTEXT)
        self.norm1, self.norm2 = nn.LayerNorm(CHANNELS), nn.LayerNorm(CHANNELS)

    def forward(self, x: Tensor, context: Tensor, options: Any) -> Tensor:
        options = options or {}
        told = {"transformer_options": options} if TELLS_OPTIONS else {}
        patches = options.get("patches", {})
        n, own, value = self.norm1(x), None, None
        if "attn1_patch" in patches:
            own = value = n
        for patch in patches.get("attn1_patch", ()):
            n, own, value = patch(n, own, value, options)
        n = self.attn1(n, context=own, value=value, **told)
        for patch in patches.get("attn1_output_patch", ()):
            n = patch(n, options)
        x = x + n
        n, value = self.norm2(x), context if "attn2_patch" in patches else None
        for patch in patches.get("attn2_patch", ()):
            n, context, value = patch(n, context, value, options)
        n = self.attn2(n, context=context, value=value, **told)
        for patch in patches.get("attn2_output_patch", ()):
            n = patch(n, options)
        return x + n


class SpatialTransformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.transformer_blocks = nn.ModuleList([Block()])

    def forward(self, x: Tensor, context: Tensor, options: Any) -> Tensor:
        tokens = x.flatten(2).transpose(1, 2)
        tokens = self.transformer_blocks[0](tokens, context, options)
        return tokens.transpose(1, 2).unflatten(2, x.shape[2:])


class Res(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(CHANNELS, CHANNELS, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(F.silu(x))


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.input_blocks = nn.ModuleList(nn.ModuleList(self._input_block(i)) for i in range(12))
        self.middle_block = nn.ModuleList([Res(), SpatialTransformer(), Res()])
        self.output_blocks = nn.ModuleList(nn.ModuleList(self._output_block(i)) for i in range(12))
        self.out = nn.Conv2d(CHANNELS, 4, 3, padding=1)

    @staticmethod
    def _input_block(i: int) -> list[nn.Module]:
        if i == 0:
            return [Conv2d(4, CHANNELS, 3, padding=1)]
        if i % 3 == 0:
            return [nn.AvgPool2d(2)]
        return [Res(), SpatialTransformer()] if i < 9 else [Res()]

    @staticmethod
    def _output_block(i: int) -> list[nn.Module]:
        up = [nn.Upsample(scale_factor=2)] if i in (2, 5, 8) else []
        return [Res(), *([SpatialTransformer()] if i > 2 else []), *up]

    def forward(self, x: Tensor, timesteps: Tensor, context: Tensor, options: Any = None) -> Tensor:
        options = (options or {}) | {"original_shape": list(x.shape)}
        skips = []
        for block in self.input_blocks:
            x = self._run(block, x, context, options)
            skips.append(x)
        x = self._run(self.middle_block, x, context, options)
        for block in self.output_blocks:
            x = self._run(block, x + skips.pop(), context, options)
        return self.out(x) * (1 + timesteps.view(-1, 1, 1, 1) / 1000)

    @staticmethod
    def _run(block: nn.ModuleList, x: Tensor, context: Tensor, options: Any) -> Tensor:
        for layer in block:
            more = (context, options) if isinstance(layer, SpatialTransformer) else ()
            x = layer(x, *more)
        return x


class Predictor:
    """Sigmas that fall from 14.6 to 0.03."""

    sigmas = torch.linspace(math.log(0.03), math.log(14.6), 1000).exp()

    def percent_to_sigma(self, percent: float) -> float:
        if percent <= 0:
            return 999999999.9
        return 0.0 if percent >= 1 else 14.6 * (0.03 / 14.6) ** percent

    def timestep(self, sigma: Tensor) -> Tensor:
        return 1000 * (sigma / 0.03).log() / torch.tensor(14.6 / 0.03).log()


class KModel(nn.Module):
    """The UNet as the sampler calls it."""

    def __init__(self) -> None:
        super().__init__()
        self.diffusion_model, self.schedule = UNet(), Predictor()

    def apply_model(
        self,
        x: Tensor,
        t: Tensor,
        c_concat: Tensor | None = None,
        c_crossattn: Tensor | None = None,
        transformer_options: Any = None,
        **kwargs: Any,
    ) -> Tensor:
        scaled = x / (t.view(-1, 1, 1, 1) ** 2 + 1).sqrt()
        if c_concat is not None:
            scaled = torch.cat([scaled, c_concat], dim=1)
        steps = self.schedule.timestep(t)
        out = self.diffusion_model(scaled, steps, c_crossattn, transformer_options)
        return x - out * t.view(-1, 1, 1, 1)


class Averages(nn.Module):
    """Makes an image's cells of 8 by 8 their means, and a deviation of 0.01 (1 + |mean|)."""

    def forward(self, signed: Tensor) -> Tensor:
        rgb = F.avg_pool2d(signed, 8)
        mean = torch.cat([rgb, rgb.mean(1, keepdim=True)], dim=1)
        return torch.cat([mean, 2 * (0.01 * (1 + mean.abs())).log()], dim=1)


class FirstStage(nn.Module):
    """The VAE's network."""

    quant_conv = None

    def __init__(self, scaling_factor: float) -> None:
        super().__init__()
        self.encoder = Averages()
        self.scaling_factor = scaling_factor

    def encode(self, signed: Tensor) -> Tensor:
        """Returns a sample of the posterior, as if it had no deviation, VAE's scale."""
        return self.encoder(signed).chunk(2, dim=1)[0]

    def process_in(self, latent: Tensor) -> Tensor:
        return latent * self.scaling_factor

    def process_out(self, latent: Tensor) -> Tensor:
        return latent / self.scaling_factor


class VAE:
    latent_channels, downscale_ratio = 4, 8
    vae_dtype = torch.float32

    def __init__(self, scaling_factor: float) -> None:
        self.first_stage_model = FirstStage(scaling_factor)
        self.device = self.output_device = memory.get_torch_device()
        self.patcher = ModelPatcher(self.first_stage_model, self.device, self.device)

    def memory_used_encode(self, shape: Sequence[int], dtype: torch.dtype) -> int:
        return shape[2] * shape[3] * 4

    def encode(self, pixels: Tensor) -> Tensor:
        """Returns `b 4 h w`, VAE's scale, of `b H W 3` in [0, 1]."""
        return self.first_stage_model.encode(pixels.movedim(-1, 1) * 2 - 1)

    def decode(self, latent: Tensor) -> Tensor:
        """Returns `b 3 H W` in [-1, 1] of `b 4 h w` on the VAE's scale."""
        rgb = latent[:, :3] + latent[:, 3:] / 4
        return F.interpolate(rgb / 8, scale_factor=8, mode="bilinear").tanh()


class ForgeObjects:
    def __init__(self, unet: UnetPatcher, vae: VAE) -> None:
        self.unet, self.vae = unet, vae

    def shallow_copy(self) -> ForgeObjects:
        return copy.copy(self)


class Checkpoint:
    """What the WebUI has as `sd_model`."""

    def __init__(self, family: str, seed: int = 0) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = KModel().requires_grad_(False).eval()
        self.is_sd1, self.is_sdxl = family == "SD1.5", family == "SDXL"
        cpu = memory.get_torch_device()
        vae = VAE(0.18215 if self.is_sd1 else 0.13025)
        arrange(model, vae.first_stage_model, model.schedule)
        self.forge_objects = ForgeObjects(UnetPatcher(model, cpu, cpu), vae)
        self.forge_objects_original = self.forge_objects.shallow_copy()
        self.forge_objects_after_applying_lora = self.forge_objects.shallow_copy()


def conditioning(prompts: list[str]) -> Tensor:
    """Returns `b n d` that differs with each text."""
    rows = []
    for prompt in prompts:
        generator = torch.Generator().manual_seed(sum(prompt.encode()) + 1000 * len(prompt))
        rows.append(torch.randn(TOKENS, CONTEXT, generator=generator))
    return torch.stack(rows)


def load_for_sampling(unet: UnetPatcher) -> None:
    """Does what the host does before a sampling run."""
    extras: list[ModelPatcher] = unet.extra_model_patchers_during_sampling
    memory.load_models_gpu([unet, *extras])


def call_unet(unet: UnetPatcher, x: Tensor, sigma: float, rows: list[Tensor]) -> Tensor:
    """Returns one UNet call's output, as the sampler makes it for chunks of the batch.

    Args:
        unet: The patcher, loaded for sampling.
        x: `b 4 h w`.
        sigma: Of this step.
        rows: The chunks' conditioning, `b n d` each: the negative prompts', then the prompts'.
    """
    chunks = len(rows)
    options = unet.model_options.get("transformer_options", {})
    options = options | {"sigmas": sigma, "cond_or_uncond": [1, 0][:chunks]}
    args = {
        "input": torch.cat([x] * chunks),
        "timestep": torch.full((chunks * len(x),), float(sigma)),
        "c": {"c_crossattn": torch.cat(rows), "transformer_options": options},
        "cond_or_uncond": options["cond_or_uncond"],
    }
    wrapper = unet.model_options.get("model_function_wrapper")
    if wrapper is None:
        return unet.model.apply_model(args["input"], args["timestep"], **args["c"])
    return wrapper(unet.model.apply_model, args)
