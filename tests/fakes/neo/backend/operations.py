"""Layers that change their weight in each call, where that is offloaded or a LoRA is online."""

from managed_patcher import Conv2d, Linear

__all__ = ["Conv2d", "Linear"]
