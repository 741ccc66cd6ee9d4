"""A checkpoint of small random networks as AUTOMATIC1111's WebUI has it, with what it does to it.

The UNet has the 32 attention modules of SD1.5 at their places; it is no diffusion model.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import torch
from modules import lowvram, script_callbacks, shared
from torch import Tensor, nn
from torch.nn import functional as F

CHANNELS, CONTEXT, HEADS, TOKENS = 16, 12, 2, 3
loaded_networks: list[dict[str, Tensor]] = []
"""The user's LoRAs: what each adds to a layer's weight, by the layer's name."""


def apply_networks(layer: Any) -> None:
    """Brings the loaded LoRAs into a layer's weight, in place, at its call.

    Weights from before are kept when the first LoRA comes, and copied back when they change.
    """
    wanted = tuple(id(network) for network in loaded_networks)
    if getattr(layer, "network_current_names", ()) == wanted:
        return
    backup = getattr(layer, "network_weights_backup", None)
    with torch.no_grad():
        if backup is None:
            backup = layer.network_weights_backup = layer.weight.clone()
        layer.weight.copy_(backup)
        for network in loaded_networks:
            if layer.network_layer_name in network:
                layer.weight += network[layer.network_layer_name]
    layer.network_current_names = wanted


class Linear(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        apply_networks(self)
        return F.linear(x, self.weight, self.bias)


class Conv2d(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        apply_networks(self)
        return super().forward(x)


class GroupNorm32(nn.GroupNorm):
    def forward(self, x: Tensor) -> Tensor:
        apply_networks(self)
        factors = self.weight.float(), self.bias.float()  # As autocast does on a GPU.
        return F.group_norm(x.float(), self.num_groups, *factors, self.eps).type(x.dtype)


class LayerNorm(nn.LayerNorm):
    def forward(self, x: Tensor) -> Tensor:
        apply_networks(self)
        factors = self.weight.float(), self.bias.float()  # As autocast does on a GPU.
        return F.layer_norm(x.float(), self.normalized_shape, *factors, self.eps)


class CrossAttention(nn.Module):
    def __init__(self, context: int) -> None:
        super().__init__()
        self.heads = HEADS
        self.to_q = Linear(CHANNELS, CHANNELS, bias=False)
        self.to_k, self.to_v = (Linear(context, CHANNELS, bias=False) for _ in range(2))
        self.to_out = nn.Sequential(Linear(CHANNELS, CHANNELS), nn.Dropout(0))

    def forward(
        self, x: Tensor, context: Tensor | None = None, mask: Tensor | None = None, **_: Any
    ) -> Tensor:
        context = x if context is None else context
        q, k, v = (
            layer(t).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer, t in ((self.to_q, x), (self.to_k, context), (self.to_v, context))
        )
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.to_out(out.transpose(1, 2).flatten(2))


class BasicTransformerBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attn1, self.attn2 = CrossAttention(CHANNELS), CrossAttention(CONTEXT)
        self.norm1, self.norm2 = LayerNorm(CHANNELS), LayerNorm(CHANNELS)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        return self._forward(x, context)

    def _forward(self, x: Tensor, context: Tensor) -> Tensor:
        x = self.attn1(self.norm1(x), context=None) + x
        return self.attn2(self.norm2(x), context=context) + x


class SpatialTransformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.transformer_blocks = nn.ModuleList([BasicTransformerBlock()])

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        tokens = self.transformer_blocks[0](x.flatten(2).transpose(1, 2), context=context)
        return tokens.transpose(1, 2).unflatten(2, x.shape[2:])


class ResBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.in_layers = nn.Sequential(
            GroupNorm32(4, CHANNELS), nn.SiLU(), Conv2d(CHANNELS, CHANNELS, 3, padding=1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.in_layers(x)


class UNetModel(nn.Module):
    def __init__(self, in_channels: int = 4) -> None:
        super().__init__()
        self.input_blocks = nn.ModuleList(
            nn.ModuleList(self._input_block(i, in_channels)) for i in range(12)
        )
        self.middle_block = nn.ModuleList([ResBlock(), SpatialTransformer(), ResBlock()])
        self.output_blocks = nn.ModuleList(nn.ModuleList(self._output_block(i)) for i in range(12))
        self.out = Conv2d(CHANNELS, 4, 3, padding=1)

    @staticmethod
    def _input_block(i: int, in_channels: int) -> list[nn.Module]:
        if i == 0:
            return [Conv2d(in_channels, CHANNELS, 3, padding=1)]
        if i % 3 == 0:
            return [nn.AvgPool2d(2)]
        return [ResBlock(), SpatialTransformer()] if i < 9 else [ResBlock()]

    @staticmethod
    def _output_block(i: int) -> list[nn.Module]:
        up = [nn.Upsample(scale_factor=2)] if i in (2, 5, 8) else []
        return [ResBlock(), *([SpatialTransformer()] if i > 2 else []), *up]

    def forward(
        self,
        x: Tensor,
        timesteps: Tensor | None = None,
        context: Tensor | None = None,
        y: Tensor | None = None,
    ) -> Tensor:
        assert timesteps is not None
        skips = []
        for block in self.input_blocks:
            x = self._run(block, x, context)
            skips.append(x)
        x = self._run(self.middle_block, x, context)
        for block in self.output_blocks:
            x = self._run(block, x + skips.pop(), context)
        return self.out(x) * (1 + timesteps.view(-1, 1, 1, 1) / 1000)

    @staticmethod
    def _run(block: nn.ModuleList, x: Tensor, context: Tensor | None) -> Tensor:
        for layer in block:
            x = layer(x, context) if isinstance(layer, SpatialTransformer) else layer(x)
        return x


class DiffusionWrapper(nn.Module):
    """Calls the UNet as the host's code for one family does."""

    def __init__(self, family: str, in_channels: int = 4) -> None:
        super().__init__()
        self.diffusion_model, self.by_keyword = UNetModel(in_channels), family == "SDXL"

    def forward(self, x: Tensor, t: Tensor, context: Tensor) -> Tensor:
        if self.by_keyword:
            return self.diffusion_model(x, timesteps=t, context=context, y=None)
        return self.diffusion_model(x, t, context=context)


class Averages(nn.Module):
    """Makes an image's cells of 8 by 8 their means, and a deviation of 0.01 (1 + |mean|).

    Its numbers become as large as the peak in between, which may be too large for half.
    """

    peak = 1.0

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, signed: Tensor) -> Tensor:
        rgb = F.avg_pool2d(signed * self.weight, 8) * self.peak / self.peak
        mean = torch.cat([rgb, rgb.mean(1, keepdim=True)], dim=1)
        return torch.cat([mean, 2 * (0.01 * (1 + mean.abs())).log()], dim=1)


class AutoencoderKL(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.quant_conv = Averages(), nn.Identity()

    def encode(self, signed: Tensor) -> Tensor:
        raise AssertionError("it draws a sample")


class Checkpoint(nn.Module):
    """What the WebUI has as `sd_model`."""

    def __init__(self, family: str, *, in_channels: int = 4, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.model = DiffusionWrapper(family, in_channels)
        for name, module in self.named_modules():
            module.network_layer_name = name
        self.is_sd1, self.is_sdxl, self.is_ssd = family == "SD1.5", family == "SDXL", False
        self.lowvram = False
        self.first_stage_model = AutoencoderKL()
        self.scale_factor = 0.18215 if self.is_sd1 else 0.13025
        betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
        self.alphas_cumprod = torch.cumprod(1 - betas, 0).float()
        self.requires_grad_(False).eval()

    def save_memory(self) -> None:
        """Does what --medvram does."""
        self.lowvram = True
        for net in (self.model, self.first_stage_model):
            net.register_forward_pre_hook(lowvram.send_me_to_gpu)


def conditioning(prompts: Sequence[str]) -> Tensor:
    """Returns `b n d` that differs with each text."""
    rows = []
    for prompt in prompts:
        generator = torch.Generator().manual_seed(sum(prompt.encode()) + 1000 * len(prompt))
        rows.append(torch.randn(TOKENS, CONTEXT, generator=generator))
    return torch.stack(rows)


def denoise(
    checkpoint: Checkpoint,
    x: Tensor,
    timestep: float,
    prompts: Sequence[Sequence[str]],
    negatives: Sequence[str] | None,
) -> Tensor:
    """Returns what the UNet makes of a step's rows: those of the prompts, then the negative ones.

    Args:
        checkpoint: The host's.
        x: `b 4 h w`.
        timestep: Of this step.
        prompts: Each image's, several for one with AND.
        negatives: Each image's; None where the host leaves them out.
    """
    repeats = torch.tensor([len(of_image) for of_image in prompts])
    cond = conditioning([text for of_image in prompts for text in of_image])
    uncond = conditioning(negatives or ["" for _ in prompts])
    rows = x.repeat_interleave(repeats, dim=0)
    script_callbacks.cfg_denoiser_callback(SimpleNamespace(text_cond=cond, text_uncond=uncond))
    parts = [(rows, cond)] if negatives is None else [(rows, cond), (x, uncond)]
    if shared.opts.batch_cond_uncond:
        parts = [tuple(torch.cat(both) for both in zip(*parts, strict=True))]
    with torch.no_grad():
        found = [
            checkpoint.model(part, torch.full((len(part),), timestep), context)
            for part, context in parts
        ]
    return torch.cat(found)
