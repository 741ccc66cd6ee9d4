"""The adapter for hosts that put weights on a UNet by a patcher: Forge and its kin."""

from .patcher_host import PatcherAttachment, PatcherHost

__all__ = ["PatcherAttachment", "PatcherHost"]
