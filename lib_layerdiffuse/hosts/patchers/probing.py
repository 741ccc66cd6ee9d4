"""Whether a host's patcher is one that the adapter knows, by what it has."""

from __future__ import annotations

from collections.abc import Iterable
from inspect import signature
from typing import Any

from ...errors import MissingCapabilityError

Wanted = tuple[Any, str, tuple[str, ...]]
"""What must have some names, what it is called, and the names."""

OF_THE_MEMORY = (
    "OOM_EXCEPTION",
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
    """Checks that a WebUI has what the adapter takes from it.

    Args:
        memory: Its memory manager, a module.
        unet_patcher: Its class of a UNet's patcher.
        others: What only some hosts must have.

    Raises:
        MissingCapabilityError: It lacks something, so it is not one that we know.
    """
    title = memory.__name__.rpartition(".")[-1]
    wanted: list[Wanted] = [
        (memory, title, ("VAE_ALWAYS_TILED", *OF_THE_MEMORY)),
        (unet_patcher, "UnetPatcher", _OF_THE_PATCHER),
        *others,
    ]
    check_has(wanted, unet_patcher, "WebUI")


def check_has(wanted: Iterable[Wanted], patcher: Any, program: str) -> None:
    """Checks that a program has some names, and a patcher that takes patches as we give them.

    Args:
        wanted: The names.
        patcher: Its class of a patcher.
        program: What a user calls it.

    Raises:
        MissingCapabilityError: It lacks something.
    """
    for owner, title, names in wanted:
        for name in names:
            if not hasattr(owner, name):
                raise _unknown(f"{title}.{name}", program)
    taken = signature(patcher.add_patches).parameters
    for name in _OF_ADD_PATCHES:
        if name not in taken:
            raise _unknown(f"add_patches({name}=…)", program)


def _unknown(missing: str, program: str) -> MissingCapabilityError:
    return MissingCapabilityError(
        f"This {program}'s model patcher is not one that LayerDiffuse knows: it lacks {missing}.",
        f"Update LayerDiffuse, or use the version of the {program} that its docs/hosts.md names.",
    )
