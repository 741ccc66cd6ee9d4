"""Layers that have nothing of the host's while memory suffices."""

from torch import nn


class disable_weight_init:
    Linear, Conv2d = nn.Linear, nn.Conv2d
