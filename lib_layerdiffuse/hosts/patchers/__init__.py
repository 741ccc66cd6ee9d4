"""The adapter for hosts that put weights on a UNet by a patcher: Forge and Forge Neo."""

from .patcher_host import PatcherAttachment, PatcherHost

__all__ = ["PatcherAttachment", "PatcherHost"]
