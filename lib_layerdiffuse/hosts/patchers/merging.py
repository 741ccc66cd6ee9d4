"""Who merges a clone's patches into the weights that all clones share, and takes them off.

The host merges when it loads a clone for a sampling run, and takes the patches off when it loads
another. Nothing here holds the clone that samples: it holds what is put on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from torch import Tensor


class Merging(Protocol):
    """One clone's weights, or those of the patcher that it is a clone of."""

    def switch(self, on: bool, x: Tensor) -> None:
        """Makes the UNet's weights the patched ones or the others, in the midst of a run.

        Args:
            on: Which of them. No work where they are so already.
            x: The UNet's noisy input, for which memory stays free.
        """
        ...

    def before(self, key: str) -> Tensor | None:
        """Returns a weight as it was before any patch; None where nothing is merged into it."""
        ...

    def undo(self) -> None:
        """Takes off what a merge has left that was broken off."""
        ...


class ByLoader:
    """The network's own loader merges all that has a name which it did not have before."""

    def __init__(self, plain: Any, patched: Any) -> None:
        self._loader, self._offload = patched.lora_loader, patched.offload_device
        self._on, self._off = patched.lora_patches, plain.lora_patches

    def switch(self, on: bool, x: Tensor) -> None:
        self._loader.refresh(self._on if on else self._off, offload_device=self._offload)

    def before(self, key: str) -> Tensor | None:
        return self._loader.backup.get(key)

    def undo(self) -> None:
        """Merges the other clone's anew: the loader takes the weights for what they were before."""
        if self._loader.loaded_hash != str(list(self._on)):
            self._loader.refresh(self._off, offload_device=self._offload, force_refresh=True)


class ByManager:
    """The memory manager merges what is on the clone that it loads, unless its id is the same."""

    def __init__(self, memory: Any, plain: Any, patched: Any, extras: list[Any]) -> None:
        self._memory, self._plain, self._patched = memory, plain, patched
        self._extras = extras  # The list itself: the host puts ControlNets into it later.
        self._is_on = True

    def switch(self, on: bool, x: Tensor) -> None:
        if on is self._is_on:
            return
        wanted = self._patched if on else self._plain
        needed = wanted.memory_required(list(x.shape))
        self._memory.load_models_gpu([wanted, *self._extras], memory_required=needed)
        self._is_on = on

    def before(self, key: str) -> Tensor | None:
        kept: Mapping[str, Any] = self._plain.backup
        return kept[key].weight if key in kept else None

    def undo(self) -> None:
        """Gives the weights back if some are merged that the host does not know of."""
        plain = self._plain
        if plain.model.current_weight_patches_uuid is None and plain.backup:
            plain.unpatch_model(plain.offload_device)
