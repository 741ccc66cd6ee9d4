"""The transparent decoder's network: an image and its latent to colour and alpha.

Source: Zhang & Agrawala, "Transparent Image Layer Diffusion using Latent Transparency",
arXiv:2402.17113.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ChecksumError
from .exact_cast import CastsExactly
from .full_memory import is_memory_error, let_go, room
from .state_dict import HINT, assign_strictly, conv_weight
from .unet_blocks import GROUPS, HEAD_WIDTH, DownBlock, MiddleBlock, UpBlock
from .unet_pass import MOST, WHOLE, Pass, Thrift, thrifts

PICTURE_CHANNELS, LATENT_CHANNELS, OUTPUT_CHANNELS = 3, 4, 4
LATENT_LEVEL = 3  # the level at 1/8 of the image, where the latent joins


@dataclass(frozen=True)
class UNetLayout:
    """What varies between networks of this kind.

    Attributes:
        widths: Channels of each level, the finest first.
        blocks: Residual blocks of a level on the way down; one more on the way up.
        attention: For each level, whether self-attention follows its residual blocks.
    """

    widths: tuple[int, ...]
    blocks: int
    attention: tuple[bool, ...]

    @classmethod
    def of(cls, state_dict: Mapping[str, Tensor]) -> UNetLayout:
        """Returns the layout that the names and shapes of a state dict imply.

        Raises:
            ChecksumError: The state dict is not one of this network.
        """
        levels = _count(state_dict, r"down_blocks\.(\d+)\.")
        if levels <= LATENT_LEVEL:
            raise ChecksumError(
                f"The file is damaged or no transparent decoder: it has {levels} levels, where one "
                f"has {LATENT_LEVEL + 1} or more.",
                HINT,
            )
        firsts = (f"down_blocks.{i}.resnets.0.conv1.weight" for i in range(levels))
        widths = tuple(conv_weight(state_dict, key).shape[0] for key in firsts)
        for width in widths:
            if width == 0 or width % HEAD_WIDTH:
                raise ChecksumError(
                    f"The file is damaged or no transparent decoder: a level's {width} channels do "
                    f"not divide into heads of {HEAD_WIDTH}.",
                    HINT,
                )
        attention = (f"down_blocks.{i}.attentions.0.to_q.weight" for i in range(levels))
        return cls(
            widths=widths,
            blocks=_count(state_dict, r"down_blocks\.\d+\.resnets\.(\d+)\."),
            attention=tuple(key in state_dict for key in attention),
        )


def _count(state_dict: Mapping[str, Tensor], pattern: str) -> int:
    """Returns how many different indices the keys have where `pattern` has its group."""
    return len({match[1] for key in state_dict if (match := re.match(pattern, key))})


class UNet1024(CastsExactly):
    """The transparent decoder's network.

    Attributes:
        multiple: Height and width of an image must be multiples of this.
    """

    def __init__(self, layout: UNetLayout) -> None:
        super().__init__()
        widths, blocks, attention = layout.widths, layout.blocks, layout.attention
        end = len(widths) - 1
        self.multiple = 2**end
        self.conv_in = nn.Conv2d(PICTURE_CHANNELS, widths[0], 3, padding=1)
        self.latent_conv_in = nn.Conv2d(LATENT_CHANNELS, widths[LATENT_LEVEL - 1], 1)
        self.down_blocks, self.up_blocks = nn.ModuleList(), nn.ModuleList()
        before, skips = widths[0], [widths[0]]
        for i, width in enumerate(widths):
            self.down_blocks.append(DownBlock(before, width, blocks, attention[i], i == end))
            skips += [width] * (blocks + (i < end))
            before = width
        self.mid_block = MiddleBlock(before)
        for i, width in reversed(list(enumerate(widths))):
            taken = [skips.pop() for _ in range(blocks + 1)]
            self.up_blocks.append(UpBlock(before, width, taken, attention[i], i == 0))
            before = width
        self.conv_norm_out = nn.GroupNorm(GROUPS, before)
        self.conv_out = nn.Conv2d(before, OUTPUT_CHANNELS, 3, padding=1)

    @classmethod
    def from_state_dict(cls, state_dict: Mapping[str, Tensor]) -> UNet1024:
        """Returns the network that a file holds, with the file's tensors, type and device.

        Raises:
            ChecksumError: A tensor is missing, surplus or of the wrong shape.
        """
        layout = UNetLayout.of(state_dict)
        with torch.device("meta"):
            net = cls(layout)
        return assign_strictly(net, state_dict)

    def held(self, pixels: int, *, whole: bool = False) -> int:
        """Returns how many values a pass over so many pixels holds, where it saves no memory.

        Args:
            pixels: How many.
            whole: Whether it makes whole maps.
        """
        return (WHOLE if whole else MOST) * self.conv_in.out_channels * pixels

    def fits(self, pixels: int, free: int | None) -> bool:
        """Whether a pass over so many pixels needs to save no memory; `free` as in `forward`."""
        like = self.conv_in.weight
        ways = thrifts(like.device, like.shape[0] * pixels, like.element_size(), free)
        return ways[0].recomputed == 0

    def fits_whole(self, pixels: int, free: int | None) -> bool:
        """Whether there is memory for whole maps of so many pixels; `free` as in `forward`."""
        like = self.conv_in.weight
        return self.held(pixels, whole=True) * like.element_size() <= room(like.device, free)

    def forward(self, pixels: Tensor, latent: Tensor, free: int | None = None) -> Tensor:
        """Returns `b 4 H W`, channels A R G B, straight alpha, about [0, 1] but not clipped.

        Args:
            pixels: `b 3 H W` in [0, 1], R G B; H and W multiples of `multiple`.
            latent: `b 4 H/8 W/8` on the VAE's scale.
            free: How many bytes are free on the device, for inference; None where nobody knows.
        """
        if torch.is_grad_enabled():
            return self.whole(pixels, latent)
        return self._in_memory(pixels, latent, free)

    def whole(self, pixels: Tensor, latent: Tensor) -> Tensor:
        """Returns what `forward` does, of whole maps: for training, and to be compiled."""
        x = self.conv_in(pixels)
        skips = [x]
        for i, block in enumerate(self.down_blocks):
            if i == LATENT_LEVEL:
                x = x + self.latent_conv_in(latent)
            x = block(x, skips)
        x = self.mid_block(x)
        for block in self.up_blocks:
            x = block(x, skips)
        argb: Tensor = self.conv_out(F.silu(self.conv_norm_out(x)))
        return argb

    def _in_memory(self, pixels: Tensor, latent: Tensor, free: int | None) -> Tensor:
        """Returns what `forward` does, computed in the first way for which there is memory."""
        like = self.conv_in.weight
        b, _, height, width = pixels.shape
        finest = b * like.shape[0] * height * width
        *ways, last = thrifts(like.device, finest, like.element_size(), free)
        for thrift in ways:
            try:
                return self.by_strips(pixels, latent, thrift)
            except Exception as error:
                if not is_memory_error(error):
                    raise
                let_go(error)
        return self.by_strips(pixels, latent, last)

    @torch.no_grad()
    def by_strips(self, pixels: Tensor, latent: Tensor, thrift: Thrift) -> Tensor:
        """Returns what `forward` does, for inference.

        Args:
            pixels: As in `forward`, on any device.
            latent: As in `forward`.
            thrift: How memory is saved.
        """
        # The levels as fine as the latent and finer: the others are small beside their attention.
        run = Pass(thrift, self.conv_in.weight, LATENT_LEVEL + 1)
        x = run.begin(pixels, self.conv_in)
        for i, block in enumerate(self.down_blocks):
            if i == LATENT_LEVEL:
                x = run.plus(x, self.latent_conv_in(latent))
            x = run.down(block, x)
        x = run.middle(self.mid_block, x)
        for block in self.up_blocks:
            x = run.up(block, x)
        return run.end(x, self.conv_norm_out, self.conv_out)
