"""Whether a host's patcher is one that the adapter knows, by what it has."""

from __future__ import annotations

from collections.abc import Iterable
from inspect import signature
from typing import Any

from ...errors import MissingCapabilityError

Wanted = tuple[Any, str, tuple[str, ...]]
"""What must have some names, what it is called, and the names."""

_OF_THE_MEMORY = (
    "OOM_EXCEPTION",
    "VAE_ALWAYS_TILED",
    "current_loaded_models",
    "get_torch_device",
    "load_models_gpu",
    "should_use_fp16",
    "soft_empty_cache",
    "unet_offload_device",
)
_OF_THE_PATCHER = (
    "add_extra_model_patcher_during_sampling",
    "add_patches",
    "clone",
    "set_model_unet_function_wrapper",
)
_OF_ADD_PATCHES = ("patches", "strength_patch")


def check_known(memory: Any, unet_patcher: Any, others: Iterable[Wanted]) -> None:
    """Checks that a host has what the adapter takes from it.

    Args:
        memory: Its memory manager, a module.
        unet_patcher: Its class of a UNet's patcher.
        others: What only some hosts must have.

    Raises:
        MissingCapabilityError: It lacks something, so it is not one that we know.
    """
    title = memory.__name__.rpartition(".")[-1]
    wanted: list[Wanted] = [
        (memory, title, _OF_THE_MEMORY),
        (unet_patcher, "UnetPatcher", _OF_THE_PATCHER),
        *others,
    ]
    for owner, title, names in wanted:
        for name in names:
            if not hasattr(owner, name):
                raise _unknown(f"{title}.{name}")
    taken = signature(unet_patcher.add_patches).parameters
    for name in _OF_ADD_PATCHES:
        if name not in taken:
            raise _unknown(f"add_patches({name}=…)")


def _unknown(missing: str) -> MissingCapabilityError:
    return MissingCapabilityError(
        f"This WebUI's model patcher is not one that LayerDiffuse knows: it lacks {missing}.",
        "Update LayerDiffuse, or use the version of the WebUI that its docs/hosts.md names.",
    )
