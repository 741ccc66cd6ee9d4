"""The adapter for AUTOMATIC1111's WebUI (its `modules` package, without a back end of its own)."""

from .a1111_host import A1111Host
from .attaching import A1111Attachment

__all__ = ["A1111Attachment", "A1111Host"]
