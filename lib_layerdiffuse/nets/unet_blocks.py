"""The blocks of the transparent decoder's network.

The names of modules and parameters are those of the diffusers 2-D UNet blocks, which the released
files use.

Source: Zhang & Agrawala, "Transparent Image Layer Diffusion using Latent Transparency",
arXiv:2402.17113.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GROUPS = 4
HEAD_WIDTH = 8

_FUSED = ("cpu", "cuda")
"""Devices for which every PyTorch says which kernel it takes; on the others it may make it."""
_MATRIX = 0  # PyTorch's number of the way that makes it.
_SCORES = 2**27
"""The most values of that matrix at a time: 512 MiB in float32."""
_is_compiling: Callable[[], bool] = getattr(torch.compiler, "is_compiling", lambda: False)
"""Whether PyTorch writes down what is run, to compile it; from 2.3 on it says so."""


class ResidualBlock(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(GROUPS, width_in)
        self.conv1 = nn.Conv2d(width_in, width, 3, padding=1)
        self.norm2 = nn.GroupNorm(GROUPS, width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(width_in, width, 1) if width_in != width else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Returns `b width h w`."""
        y: Tensor = self.conv1(F.silu(self.norm1(x)))
        y = self.conv2(F.silu(self.norm2(y)))
        y += self.conv_shortcut(x)
        return y


class SelfAttention(nn.Module):
    """Attention among all places of a feature map, in heads of `HEAD_WIDTH` channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.group_norm = nn.GroupNorm(GROUPS, width)
        self.to_q = nn.Linear(width, width)
        self.to_k = nn.Linear(width, width)
        self.to_v = nn.Linear(width, width)
        self.to_out = nn.ModuleList([nn.Linear(width, width)])

    def forward(self, x: Tensor) -> Tensor:
        """Returns `b c h w`, the input plus what attention adds."""
        tokens = self.group_norm(x).flatten(2).transpose(1, 2)  # b n c
        heads = (
            project(tokens).unflatten(2, (-1, HEAD_WIDTH)).transpose(1, 2)  # b heads n 8
            for project in (self.to_q, self.to_k, self.to_v)
        )
        mixed = _attention(*heads).transpose(1, 2).flatten(2)
        added: Tensor = self.to_out[0](mixed)
        return x + added.transpose(1, 2).reshape(x.shape)


def _attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Returns softmax(q·kᵀ / √8)·v, `b heads n 8`.

    Where PyTorch would make the matrix of all pairs of places, which for a large image takes more
    than a device has, it is made for some queries at a time.
    """
    b, heads, n, _ = q.shape
    rows = n if _is_fused(q, k, v) else max(1, _SCORES // (b * heads * n))
    found = [F.scaled_dot_product_attention(some, k, v) for some in q.split(rows, dim=2)]
    return torch.cat(found, dim=2) if len(found) > 1 else found[0]


def _is_fused(q: Tensor, k: Tensor, v: Tensor) -> bool:
    """Whether PyTorch has a kernel for them that makes no matrix of all pairs."""
    if q.device.type not in _FUSED:
        return False
    return _is_compiling() or bool(torch._fused_sdp_choice(q, k, v) != _MATRIX)


def _attentions(width: int, count: int, attention: bool) -> nn.ModuleList:
    """Returns `count` attention modules, or as many that change nothing."""
    return nn.ModuleList(SelfAttention(width) if attention else nn.Identity() for _ in range(count))


class Downsample(nn.Module):
    """Halves height and width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Returns `b c h/2 w/2`."""
        halved: Tensor = self.conv(x)
        return halved


class Upsample(nn.Module):
    """Doubles height and width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Returns `b c 2h 2w`."""
        doubled: Tensor = self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return doubled


class DownBlock(nn.Module):
    """One level on the way down."""

    def __init__(self, width_in: int, width: int, blocks: int, attention: bool, last: bool) -> None:
        super().__init__()
        widths = [width_in] + [width] * blocks
        self.resnets = nn.ModuleList(ResidualBlock(a, b) for a, b in pairwise(widths))
        self.attentions = _attentions(width, blocks, attention)
        self.downsamplers = nn.ModuleList([] if last else [Downsample(width)])

    def forward(self, x: Tensor, skips: list[Tensor]) -> Tensor:
        """Returns the next level's input; appends this level's skip connections to `skips`."""
        for resnet, attention in zip(self.resnets, self.attentions, strict=True):
            x = attention(resnet(x))
            skips.append(x)
        for downsample in self.downsamplers:
            x = downsample(x)
            skips.append(x)
        return x


class MiddleBlock(nn.Module):
    """The level between down and up."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.resnets = nn.ModuleList([ResidualBlock(width, width), ResidualBlock(width, width)])
        self.attentions = nn.ModuleList([SelfAttention(width)])

    def forward(self, x: Tensor) -> Tensor:
        """Returns `b c h w`."""
        y: Tensor = self.resnets[1](self.attentions[0](self.resnets[0](x)))
        return y


class UpBlock(nn.Module):
    """One level on the way up.

    Args:
        width_in: Channels that come from the level below.
        width: Channels of this level.
        skip_widths: Channels of the skip connections, in the order in which they are taken.
        attention: Whether attention follows each residual block.
        last: Whether this is the finest level.
    """

    def __init__(
        self, width_in: int, width: int, skip_widths: list[int], attention: bool, last: bool
    ) -> None:
        super().__init__()
        widths = [width_in] + [width] * (len(skip_widths) - 1)
        self.resnets = nn.ModuleList(
            ResidualBlock(a + b, width) for a, b in zip(widths, skip_widths, strict=True)
        )
        self.attentions = _attentions(width, len(skip_widths), attention)
        self.upsamplers = nn.ModuleList([] if last else [Upsample(width)])

    def forward(self, x: Tensor, skips: list[Tensor]) -> Tensor:
        """Returns the next level's input; takes skip connections off the end of `skips`."""
        for resnet, attention in zip(self.resnets, self.attentions, strict=True):
            x = attention(resnet(torch.cat([x, skips.pop()], dim=1)))
        for upsample in self.upsamplers:
            x = upsample(x)
        return x
