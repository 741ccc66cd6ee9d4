"""The adapter for Forge (its `backend` package)."""

from .forge_host import ForgeAttachment, ForgeHost

__all__ = ["ForgeAttachment", "ForgeHost"]
