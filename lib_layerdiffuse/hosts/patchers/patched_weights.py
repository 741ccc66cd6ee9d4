"""Weight patches on a clone of the UNet's patcher, and whether the host has really merged them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor

from ...errors import HostError
from ...host import Injection
from ...weights.patches import CONV_IN, LoRA, WeightPatch, check_shape, lacking_layers
from ..whole_images import check_whole
from .dialect import Dialect
from .merging import Merging

Applied = Callable[[bool, dict[str, Any]], AbstractContextManager[dict[str, Any]]]
"""What a UNet call runs inside, by whether the method acts and the call's arguments."""

Before = Callable[[str], "Tensor | None"]
"""Returns a parameter as it was before any patch; None where nothing is merged into it."""

_PATCHES_EACH_KIND = 3  # Looked at in vain before giving up: rounding may hide a weak one.
_MOST_BY_CHANCE = 0.15  # The deviation of a patch's part; half of it must be there.


def patch_weights(
    dialect: Dialect, plain: Any, injection: Injection
) -> tuple[Any, Applied, Merging]:
    """Returns a clone of a patcher with an injection's patches.

    Args:
        dialect: The host's.
        plain: The UNet's patcher.
        injection: With patches.

    Raises:
        ChecksumError: The weight file has keys or shapes that the UNet lacks.
    """
    patches, strength = injection.patches or {}, injection.strength
    patched = plain.clone()
    accepted = dialect.add(patched, patches, strength, injection.identity)
    unused = patches.keys() - accepted
    if unused:
        raise lacking_layers(unused)
    check_shapes(plain.model, patches)
    unet = patched.clone()
    merging = dialect.merging(plain, patched, unet.extra_model_patchers_during_sampling)
    merging.begin()
    return unet, _applied(merging, plain.model, injection), merging


def check_shapes(model: torch.nn.Module, patches: Mapping[str, WeightPatch]) -> None:
    """Checks that patches fit a UNet's parameters, by `diffusion_model.…` name.

    Raises:
        ChecksumError: One has another shape.
    """
    for key, patch in patches.items():
        path, _, name = key.rpartition(".")
        layer: Any = model.get_submodule(path)
        weight = getattr(layer, name)
        if _is_readable(weight):  # Else it is packed, in a shape of its own.
            shape = list(weight.shape)
            if key == CONV_IN:
                shape[1] = layer.in_channels  # The last job's wider one may still be merged.
            check_shape(key, patch, shape)


def _applied(merging: Merging, model: torch.nn.Module, injection: Injection) -> Applied:
    checked = False

    @contextmanager
    def applied(acts: bool, args: dict[str, Any]) -> Iterator[dict[str, Any]]:
        nonlocal checked
        if injection.stop_at < 1:
            merging.switch(acts, args["input"])
        if acts and not checked:
            check_merged(merging.before, model, injection.patches or {}, injection.strength)
            checked = True
        if acts and injection.concat is not None:
            x = args["input"]
            check_whole(x, injection.concat)
            concat = injection.concat.to(x).expand(x.shape[0], -1, -1, -1)
            args = args | {"c": args["c"] | {"c_concat": concat}}
        yield args

    return applied


@torch.no_grad()
def check_merged(
    before: Before,
    model: torch.nn.Module,
    patches: Mapping[str, WeightPatch],
    strength: float,
) -> None:
    """Checks one weight of each kind of patch: a host may take a patch and leave it out.

    Args:
        before: Returns a weight as it was before any patch.
        model: The UNet, as the host calls it.
        patches: By the name of the parameter.
        strength: Of the patches.

    Raises:
        HostError: The host has left it out.
    """
    kinds: dict[tuple[type, bool], list[str]] = {}
    for key, patch in patches.items():
        kinds.setdefault((type(patch), key == CONV_IN), []).append(key)
    for keys in kinds.values():
        for key in keys[:_PATCHES_EACH_KIND]:
            part = _merged_part(before(key), model, key, patches[key], strength)
            if part is None:
                continue
            if part < 0.5:
                raise HostError(
                    f"The host has not merged the method's weights into the UNet: {key} is as it "
                    "was.",
                    "Update LayerDiffuse, or use the version of the host that its docs/hosts.md "
                    "names.",
                )
            break


def _merged_part(
    before: Tensor | None, model: torch.nn.Module, key: str, patch: WeightPatch, strength: float
) -> float | None:
    """Returns how much of a patch is in the UNet's weight: 0 for nothing, about 1 for all.

    What a user's LoRA does to the same weight counts only as far as it is along the patch, which
    is by chance. None where the part cannot be seen: the weights are packed in a form of their
    own, or the patch is so weak that rounding or that chance hides it.
    """
    path, _, name = key.rpartition(".")
    module = model.get_submodule(path)
    now: Tensor = getattr(module, name)
    before = now if before is None else before
    if not (_is_readable(now) and _is_readable(before)):
        return None
    delta = patch.up.flatten(1) @ patch.down.flatten(1) if isinstance(patch, LoRA) else patch.delta
    delta = strength * delta.to("cpu", torch.float32)
    if _size(delta) <= torch.finfo(before.dtype).eps * _size(before):
        return None
    for function in _in_each_call(module, name):
        now = function(now.detach().clone())
    if now.numel() != delta.numel():
        return 0.0
    change = now.to("cpu", torch.float32, copy=True)
    change[tuple(map(slice, before.shape))] -= before.to("cpu", torch.float32)
    by_chance = _size(change) / _size(delta) / delta.numel() ** 0.5
    if by_chance > _MOST_BY_CHANCE:
        return None
    return float((change.flatten() @ delta.flatten()) / delta.square().sum())


def _in_each_call(module: Any, name: str) -> list[Callable[[Tensor], Tensor]]:
    """Returns what an offloaded parameter goes through in each call."""
    lowvram = getattr(module, f"{name}_lowvram_function", None)  # With dynamic VRAM.
    return [*([] if lowvram is None else [lowvram]), *getattr(module, f"{name}_function", ())]


def _is_readable(weight: Tensor) -> bool:
    return type(weight) in (Tensor, torch.nn.Parameter) and weight.is_floating_point()


def _size(weight: Tensor) -> float:
    """Returns a root mean square."""
    return float(weight.detach().float().square().mean().sqrt())
