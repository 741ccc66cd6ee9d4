"""The codec's networks on parts of an image, where memory does not suffice for the whole.

The encoder's convolutions see a few pixels around each place, so that its strips make together
what the whole image makes. The decoder's parts differ from the whole a little, since each sees
nothing of the others, neither through attention nor through the statistics that normalise its
features. So these overlap, and where they do one fades into the other.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Net = Callable[[Tensor, Tensor], Tensor]

_MARGIN = 32
"""Pixels around a place that the encoder's result depends on: 3 + 2·2 + 4·2 + 8·2 = 31."""
_CELL = 8  # Pixels of an image's side to one of its latent's.


def in_tiles(net: Net, pixels: Tensor, latent: Tensor, side: int, step: int) -> Tensor:
    """Returns `b 4 H W`, float32: what the network makes of an image part by part.

    Args:
        net: What makes `b 4 h w` of pixels and latent.
        pixels: `b 3 H W`; H and W multiples of `step`.
        latent: `b 4 h w` of the same image, cut together with it.
        side: Pixels of a part's sides, rounded to a multiple of `step`; fewer where the image is
            smaller.
        step: What the network's images are multiples of.
    """
    height, width = pixels.shape[2:]
    tops, lefts = (_spans(length, side, step) for length in (height, width))
    total = torch.zeros(len(pixels), 4, height, width, device=pixels.device)
    weights = torch.zeros(1, 1, height, width, device=pixels.device)
    for top, bottom in tops:
        for left, right in lefts:
            rows, columns = slice(top, bottom), slice(left, right)
            cells = latent[..., top // _CELL : bottom // _CELL, left // _CELL : right // _CELL]
            made = net(pixels[..., rows, columns], cells).float()
            fades = (_fade(*x, step) for x in ((top, bottom, height), (left, right, width)))
            weight = torch.outer(*fades).to(made)
            total[..., rows, columns] += made * weight
            weights[..., rows, columns] += weight
    return total / weights


def in_strips(net: Callable[[Tensor], Tensor], argb: Tensor, rows: int) -> Tensor:
    """Returns `b 4 H/8 W/8`: what the encoder's network makes of an image, strip by strip.

    Args:
        net: It.
        argb: `b 4 H W`.
        rows: Pixels of a strip's height, a multiple of 8.
    """
    height, strips = argb.shape[2], []
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        start, end = max(0, top - _MARGIN), min(height, bottom + _MARGIN)
        cells = slice((top - start) // _CELL, (bottom - start) // _CELL)
        strips.append(net(argb[:, :, start:end])[:, :, cells])
    return torch.cat(strips, dim=2)


def _spans(length: int, side: int, step: int) -> list[tuple[int, int]]:
    """Returns where the parts of an axis begin and end; neighbours share a quarter or more."""
    side = min(length, max(step, side // step * step))
    if side == length:
        return [(0, length)]
    overlap = max(step, side // 4 // step * step) if side > step else 0
    starts = [*range(0, length - side, max(step, side - overlap)), length - side]
    return [(start, start + side) for start in starts]


def _fade(start: int, end: int, length: int, overlap: int) -> Tensor:
    """Returns a part's share along one axis: 1, and less towards its ends inside the image."""
    place = torch.arange(start, end) + 0.5
    share = torch.ones(end - start)
    if start:
        share = share.minimum((place - start) / overlap)
    if end < length:
        share = share.minimum((end - place) / overlap)
    return share
