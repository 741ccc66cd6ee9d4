"""Who merges a clone's patches into the weights that all clones share, and takes them off.

The host merges when it loads a clone for a sampling run, and takes the patches off when it loads
another. Nothing here holds the clone that samples: it holds what is put on it.
"""

from __future__ import annotations

from inspect import signature
from typing import Any, Protocol

from torch import Tensor


class Merging(Protocol):
    """One clone's weights, or those of the patcher that it is a clone of."""

    def begin(self) -> None:
        """Makes the UNet ready for the host to load the clone."""
        ...

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

    def end(self, *, went_well: bool) -> None:
        """Takes off what the host would leave on the UNet when it loads another patcher.

        Args:
            went_well: Whether the UNet was called and no call failed; else a merge may have been
                broken off.
        """
        ...


class ByLoader:
    """The network's own loader merges all that has a name which it did not have before."""

    def __init__(self, plain: Any, patched: Any) -> None:
        self._loader, self._offload = patched.lora_loader, patched.offload_device
        self._on, self._off = patched.lora_patches, plain.lora_patches

    def begin(self) -> None:
        pass

    def switch(self, on: bool, x: Tensor) -> None:
        self._loader.refresh(self._on if on else self._off, offload_device=self._offload)

    def before(self, key: str) -> Tensor | None:
        return self._loader.backup.get(key)

    def end(self, *, went_well: bool) -> None:
        """Merges the other clone's anew: the loader takes the weights for what they were before."""
        if not went_well and self._loader.loaded_hash != str(list(self._on)):
            self._loader.refresh(self._off, offload_device=self._offload, force_refresh=True)


class ByManager:
    """The memory manager merges what is on the clone that it loads, unless its id is the same."""

    def __init__(self, memory: Any, plain: Any, patched: Any, extras: list[Any]) -> None:
        self._memory, self._plain, self._patched = memory, plain, patched
        self._extras = extras  # The list itself: the host puts ControlNets into it later.
        self._is_on = True

    def begin(self) -> None:
        pass

    def switch(self, on: bool, x: Tensor) -> None:
        if on is self._is_on:
            return
        self.begin()
        wanted = self._patched if on else self._plain
        needed = wanted.memory_required(list(x.shape))
        self._memory.load_models_gpu([wanted, *self._extras], memory_required=needed)
        self._is_on = on

    def before(self, key: str) -> Tensor | None:
        kept: Any = self._plain.backup.get(key)
        return getattr(kept, "weight", kept)  # Some keep more than the weight.

    def end(self, *, went_well: bool) -> None:
        """Gives the weights back if some are merged that the host does not know of."""
        plain = self._plain
        if not went_well and plain.model.current_weight_patches_uuid is None and plain.backup:
            plain.unpatch_model(plain.offload_device)


class ByClone(ByManager):
    """The memory manager merges what is on each clone that it loads, and takes it off after it.

    Told to let patches persist, it merges onto what is merged already, and takes that off only
    when the user's LoRAs change; so here it is told that nothing is loaded, before and after.
    """

    def __init__(self, *of_the_manager: Any) -> None:
        super().__init__(*of_the_manager)
        told = signature(self._patched.unpatch_model).parameters.get("move")
        self._whole: dict[str, bool] = {} if told is None else {"move": True}
        self._persists = told is not None and not told.default

    def begin(self) -> None:
        if self._persists:
            self._unload()

    def end(self, *, went_well: bool) -> None:
        if self._persists or not went_well:
            self._unload()

    def _unload(self) -> None:
        self._memory.unload_model_clones(self._plain)
        if self._plain.backup:  # A merge was broken off, or it persists.
            self._patched.unpatch_model(**self._whole)
        if self._persists:
            self._plain.patch_status.on_add_patches()
