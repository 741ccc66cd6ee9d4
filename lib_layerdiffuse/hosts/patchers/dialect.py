"""In what the hosts with a patcher differ, though all of them descend from one.

A host's part of this is found out by what is there and by what its functions take, never by a
version: the same program has changed it within a year.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from inspect import signature
from typing import Any
from uuid import NAMESPACE_OID, uuid5

import torch
from torch import Tensor

from ...weights.patches import LoRA, WeightPatch
from .merging import ByClone, ByLoader, ByManager, Merging

_SLOTS_OF_A_LORA = 6  # up, down, alpha, mid, DoRA's scale, shape: read by position.


@dataclass(frozen=True)
class Dialect:
    """What one host calls what they all can.

    Attributes:
        memory: Its memory manager, a module.
        patcher: Its class that holds a network for the memory manager.
        attention: Attention over `r n c` and `r m c` by a number of heads.
        tiled_scale: What a function makes of an image, in tiles.
        lora: Its class for a LoRA; None where a LoRA is a tuple.
        schedule: Returns what knows a UNet model's sigmas, of that model.
        latents: Returns what scales the VAE's latents for the sampler, of the host's objects.
        computes_in: Returns the type that a UNet model computes in, of that model.
    """

    memory: Any
    patcher: Callable[..., Any]
    attention: Callable[..., Tensor]
    tiled_scale: Callable[..., Tensor]
    lora: Callable[..., Any] | None
    schedule: Callable[[Any], Any]
    latents: Callable[[Any], Any]
    computes_in: Callable[[Any], torch.dtype]

    def write(self, patch: WeightPatch) -> Any:
        """Returns a patch as the host reads it."""
        if not isinstance(patch, LoRA):
            # Some pad a narrower weight unasked, the others leave the patch out unless told to.
            return "diff", (patch.delta, {"pad_weight": True})
        parts = [patch.up, patch.down] + [None] * (_SLOTS_OF_A_LORA - 2)
        return ("lora", parts) if self.lora is None else self.lora(set(), tuple(parts))

    def add(
        self, unet: Any, patches: Mapping[str, WeightPatch], strength: float, identity: str
    ) -> set[str]:
        """Puts patches on a clone of the UNet's patcher; returns the keys that the UNet has."""
        written = {key: self.write(patch) for key, patch in patches.items()}
        named = {"filename": identity} if _takes(unet.add_patches, "filename") else {}
        if hasattr(unet, "weight_inplace_update"):
            unet.weight_inplace_update = False  # A wider weight does not fit into the old one.
        before = getattr(unet, "patches_uuid", None)
        accepted = set(unet.add_patches(patches=written, strength_patch=strength, **named))
        if before is not None:  # The same id for the same patches, or each pass merges anew.
            unet.patches_uuid = uuid5(NAMESPACE_OID, f"{before} {identity} {strength}")
        return accepted

    def merging(self, plain: Any, patched: Any, extras: list[Any]) -> Merging:
        """Returns what merges a patched clone's weights, and takes them off again.

        Args:
            plain: The patcher that it is a clone of.
            patched: The clone.
            extras: The patchers that are loaded with it.
        """
        if hasattr(patched, "lora_loader"):
            return ByLoader(plain, patched)
        by_id = hasattr(patched, "patches_uuid")
        return (ByManager if by_id else ByClone)(self.memory, plain, patched, extras)

    def memory_errors(self) -> tuple[type[BaseException], ...]:
        """Returns the host's own types of errors that say that memory is full."""
        return (self.memory.OOM_EXCEPTION,)

    def drop(self, entry: Any) -> None:
        """Unloads a network from an entry of the memory manager's list, for good."""
        fast = _takes(entry.model_unload, "avoid_model_moving")
        entry.model_unload(**({"avoid_model_moving": True} if fast else {}))


def computes_in(model: Any) -> torch.dtype:
    """Returns the type that a UNet computes in, whatever its weights are stored in."""
    cast, stored = model.manual_cast_dtype, model.get_dtype()
    dtype: torch.dtype = stored if cast is None else cast
    return dtype


def _takes(function: Callable[..., Any], name: str) -> bool:
    return name in signature(function).parameters
