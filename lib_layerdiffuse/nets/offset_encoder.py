"""The transparent encoder's network: an image with alpha to an offset of its latent.

Source: Zhang & Agrawala, "Transparent Image Layer Diffusion using Latent Transparency",
arXiv:2402.17113.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import torch
from torch import Tensor, nn

from .exact_cast import CastsExactly
from .state_dict import assign_strictly, conv_weight

CONVS = 9
HALVING = (2, 4, 6)  # the convolutions, from 0, of stride 2; together they give 1/8
PICTURE_CHANNELS, LATENT_CHANNELS = 4, 4


class OffsetEncoder(CastsExactly):
    """Nine 3×3 convolutions with SiLU between them.

    Args:
        widths: Output channels of the first eight.
    """

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        self._finest = widths[0]
        self.blocks = nn.Sequential()
        for i, pair in enumerate(pairwise((PICTURE_CHANNELS, *widths, LATENT_CHANNELS))):
            if i:
                self.blocks.append(nn.SiLU())
            self.blocks.append(nn.Conv2d(*pair, 3, stride=2 if i in HALVING else 1, padding=1))

    @classmethod
    def from_state_dict(cls, state_dict: Mapping[str, Tensor]) -> OffsetEncoder:
        """Returns the network that a file holds, with the file's tensors, type and device.

        Raises:
            ChecksumError: A tensor is missing, surplus or of the wrong shape.
        """
        names = (f"blocks.{2 * i}.weight" for i in range(CONVS - 1))
        widths = tuple(conv_weight(state_dict, name).shape[0] for name in names)
        with torch.device("meta"):
            net = cls(widths)
        return assign_strictly(net, state_dict)

    def held(self, pixels: int) -> int:
        """Returns how many values are held for so many pixels: two maps of the finest level."""
        return 2 * self._finest * pixels

    def forward(self, argb: Tensor) -> Tensor:
        """Returns the latent offset `b 4 H/8 W/8` on the VAE's scale.

        Args:
            argb: `b 4 H W` in [0, 1], channels A R G B, straight alpha, colour-padded; H and W
                multiples of 8.
        """
        offset: Tensor = self.blocks(argb)
        return offset
