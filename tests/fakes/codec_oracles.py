"""The codec once more, written differently: diffusers' blocks, one stack, one median."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from diffusers.models.unets.unet_2d_blocks import UNetMidBlock2D, get_down_block, get_up_block
from torch import Tensor, nn

COMMON = {
    "temb_channels": None,
    "resnet_eps": 1e-5,
    "resnet_act_fn": "silu",
    "resnet_groups": 4,
    "attention_head_dim": 8,
}


class DiffusersUNet1024(nn.Module):
    """The transparent decoder's network, assembled from the blocks of the diffusers package."""

    def __init__(self, widths: tuple[int, ...], blocks: int, attention: tuple[bool, ...]) -> None:
        super().__init__()
        last = len(widths) - 1
        self.conv_in = nn.Conv2d(3, widths[0], 3, padding=1)
        self.latent_conv_in = nn.Conv2d(4, widths[2], 1)
        self.down_blocks = nn.ModuleList(
            get_down_block(
                "AttnDownBlock2D" if attention[i] else "DownBlock2D",
                num_layers=blocks,
                in_channels=widths[max(i - 1, 0)],
                out_channels=widths[i],
                add_downsample=i != last,
                downsample_padding=1,
                downsample_type="conv",
                **COMMON,
            )
            for i in range(last + 1)
        )
        self.mid_block = UNetMidBlock2D(in_channels=widths[-1], **COMMON)
        up = widths[::-1]
        self.up_blocks = nn.ModuleList(
            get_up_block(
                "AttnUpBlock2D" if attention[::-1][i] else "UpBlock2D",
                num_layers=blocks + 1,
                in_channels=up[min(i + 1, last)],
                out_channels=up[i],
                prev_output_channel=up[max(i - 1, 0)],
                add_upsample=i != last,
                upsample_type="conv",
                **COMMON,
            )
            for i in range(last + 1)
        )
        self.conv_norm_out = nn.GroupNorm(4, widths[0], eps=1e-5)
        self.conv_out = nn.Conv2d(widths[0], 4, 3, padding=1)

    @classmethod
    def load(cls, weights: Mapping[str, Tensor], **layout: object) -> DiffusersUNet1024:
        """Returns the network with `weights`, not copied."""
        with torch.device("meta"):
            net = cls(**layout)
        net.load_state_dict(weights, strict=True, assign=True)
        return net.eval().requires_grad_(False)

    def forward(self, pixels: Tensor, latent: Tensor) -> Tensor:
        x = self.conv_in(pixels)
        stack: tuple[Tensor, ...] = (x,)
        for i, block in enumerate(self.down_blocks):
            if i == 3:
                x = x + self.latent_conv_in(latent)
            x, outputs = block(hidden_states=x, temb=None)
            stack += tuple(outputs)
        x = self.mid_block(x, None)
        for block in self.up_blocks:
            count = len(block.resnets)
            stack, skips = stack[:-count], stack[-count:]
            x = block(hidden_states=x, res_hidden_states_tuple=skips, temb=None)
        return self.conv_out(F.silu(self.conv_norm_out(x)))


def decode_by_median(net: nn.Module, pixels: Tensor, latent: Tensor) -> Tensor:
    """Returns straight `b 4 H W`, R G B A, from eight views, for sizes that need no padding."""
    outputs = []
    for mirrored in (False, True):
        for turns in range(4):
            views = []
            for x in (pixels, latent):
                view = x[..., range(x.shape[-1] - 1, -1, -1)] if mirrored else x
                for _ in range(turns):  # a quarter turn to the left: transpose, rows reversed
                    view = view.transpose(-1, -2)[..., range(view.shape[-1] - 1, -1, -1), :]
                views.append(view)
            y = net(*views).clamp(0, 1)
            for _ in range(turns):  # to the right: rows reversed, transpose
                y = y[..., range(y.shape[-2] - 1, -1, -1), :].transpose(-1, -2)
            outputs.append(y[..., range(y.shape[-1] - 1, -1, -1)] if mirrored else y)
    argb = torch.median(torch.stack(outputs), dim=0).values
    return argb[:, [1, 2, 3, 0]]


def encode_by_hand(weights: Mapping[str, Tensor], rgba: Tensor) -> Tensor:
    """Returns the encoder's offset of straight `b 4 H W`."""
    x = rgba[:, [3, 0, 1, 2]]
    for n, stride in enumerate((1, 1, 2, 1, 2, 1, 2, 1, 1)):
        x = F.silu(x) if n else x
        weight, bias = weights[f"blocks.{2 * n}.weight"], weights[f"blocks.{2 * n}.bias"]
        x = F.conv2d(x, weight, bias, stride=stride, padding=1)
    return x
