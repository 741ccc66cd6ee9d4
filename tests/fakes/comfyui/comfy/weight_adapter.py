"""The form that a LoRA has here."""

from managed_patcher import LoRAAdapter

__all__ = ["LoRAAdapter"]
