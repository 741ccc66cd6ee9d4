"""Convolutions that turn and mirror with what they see.

A network of them, of norms and of attention without positions gives of a turned or mirrored image
the turned or mirrored result: all eight views of it agree. Its tensors have the shapes that they
have without, so the same code reads its file.

Source: the trivial representations of Cohen & Welling, "Group Equivariant Convolutional Networks",
arXiv:1602.07576.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from lib_layerdiffuse.codec.views import VIEWS, turn


class _Turned(nn.Module):
    """The mean of a kernel's eight views."""

    def forward(self, kernel: Tensor) -> Tensor:
        return torch.stack([turn(kernel, *view) for view in VIEWS]).mean(0)


class _Halving(nn.Module):
    """The mean of the 2×2 places that a step of 2 stands over; the rest would reach to one side."""

    def forward(self, kernel: Tensor) -> Tensor:
        mean = kernel[..., 1:, 1:].mean((2, 3), keepdim=True)
        return F.pad(mean.expand(-1, -1, 2, 2), (1, 0, 1, 0))


def _convolutions(net: nn.Module) -> list[nn.Conv2d]:
    return [m for m in net.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]


def hold(net: nn.Module) -> None:
    """Keeps a network's convolutions symmetric from now on, whatever trains it.

    Those of a step of 2 keep the sum of all nine places, so that a trained network stays near to
    what it was.
    """
    for convolution in _convolutions(net):
        halves = convolution.stride == (2, 2)
        if halves:
            with torch.no_grad():
                total = convolution.weight.sum((2, 3), keepdim=True)
                convolution.weight.copy_((total / 4).expand_as(convolution.weight))
        parametrize.register_parametrization(
            convolution, "weight", _Halving() if halves else _Turned()
        )


def release(net: nn.Module) -> None:
    """Gives a network plain tensors again, with the values that they have."""
    for convolution in _convolutions(net):
        parametrize.remove_parametrizations(convolution, "weight")
