"""Layers that change their weight in each call, where that is offloaded."""

import managed_patcher


class disable_weight_init:
    Linear, Conv2d = managed_patcher.Linear, managed_patcher.Conv2d
