"""The adapter for Forge (its `backend` package)."""

from .host import ForgeAttachment, ForgeHost

__all__ = ["ForgeAttachment", "ForgeHost"]
