"""The adapter for ComfyUI, whose patcher is the ancestor of those in `patchers`."""

from .comfy_host import ComfyAttachment, ComfyHost

__all__ = ["ComfyAttachment", "ComfyHost"]
