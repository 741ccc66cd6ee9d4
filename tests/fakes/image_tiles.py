"""Images in tiles."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def tiled_scale(
    samples: Tensor,
    function: Callable[[Tensor], Tensor],
    tile_x: int = 64,
    tile_y: int = 64,
    overlap: int = 8,
    upscale_amount: float = 4,
    out_channels: int = 3,
    output_device: str = "cpu",
) -> Tensor:
    """Returns the mean of what a function makes of overlapping tiles, in their places."""
    height, width = (round(side * upscale_amount) for side in samples.shape[2:])
    total = torch.zeros(len(samples), out_channels, height, width)
    count = torch.zeros(1, 1, height, width)
    for top in range(0, samples.shape[2], tile_y - overlap):
        for left in range(0, samples.shape[3], tile_x - overlap):
            found = function(samples[:, :, top : top + tile_y, left : left + tile_x])
            y, x = (round(start * upscale_amount) for start in (top, left))
            place = (..., slice(y, y + found.shape[2]), slice(x, x + found.shape[3]))
            total[place] += found
            count[place] += 1
    return total / count
