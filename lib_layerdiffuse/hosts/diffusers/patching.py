"""One parameter of the UNet beside its patched stand-in."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...weights.patches import LoRA, WeightPatch, check_shape


class PatchedParameter:
    """A parameter and its stand-in; `put` chooses which of them the module has."""

    def __init__(self, module: nn.Module, name: str, plain: nn.Parameter, patched: Tensor) -> None:
        self._module, self._name = module, name
        self._plain, self._patched = plain, nn.Parameter(patched, requires_grad=False)

    def put(self, patched: bool) -> None:
        """Gives the module the stand-in, or the very parameter that it had."""
        wanted = self._patched if patched else self._plain
        current = self._module._parameters[self._name]
        if current is None or current is wanted:
            return
        if wanted.device != current.device:  # The model was moved meanwhile.
            wanted.data = wanted.data.to(current.device)
        self._module._parameters[self._name] = wanted


class _OffloadedParameter(PatchedParameter):
    """The same where the parameter is on the meta device and its values are in a map.

    That is how accelerate keeps layers that it moves to the device for their call only.
    """

    def __init__(
        self,
        module: nn.Module,
        name: str,
        plain: nn.Parameter,
        patched: Tensor,
        values: dict[str, Tensor],
        key: str,
    ) -> None:
        super().__init__(module, name, plain, patched.to("meta"))
        self._values, self._key = values, key
        self._tensors = (values[key], patched)

    def put(self, patched: bool) -> None:
        # Not the parameter itself: another object may be there after a call.
        current = self._module._parameters[self._name]
        wanted = self._patched if patched else self._plain
        if current is not None and current.shape != wanted.shape:
            self._module._parameters[self._name] = wanted
        self._values[self._key] = self._tensors[patched]


def patched_parameter(
    key: str,
    module: nn.Module,
    name: str,
    patch: WeightPatch,
    strength: float,
    device: torch.device,
) -> PatchedParameter:
    """Returns a module's parameter with its stand-in; the module still has the former.

    Args:
        key: The patch's name in errors.
        module: Owner of the parameter.
        name: The parameter's name there.
        patch: What to add, in float32.
        strength: Its scale.
        device: Where to compute the sum.

    Raises:
        ChecksumError: The patch has another shape.
    """
    plain = module._parameters[name]
    assert plain is not None
    values, map_key = _offload_map(module, name)
    value = plain if values is None else values[map_key]
    check_shape(key, patch, value.shape)
    patched = _patch(value, patch, strength, device)
    if values is None:
        return PatchedParameter(module, name, plain, patched)
    return _OffloadedParameter(module, name, plain, patched, values, map_key)


def _offload_map(module: nn.Module, name: str) -> tuple[Any, str]:
    """Returns accelerate's map of the values of a layer and the parameter's key in it, if any."""
    prefixed = getattr(getattr(module, "_hf_hook", None), "weights_map", None)
    if prefixed is None:
        return None, ""
    if hasattr(prefixed, "dataset"):
        return prefixed.dataset, f"{prefixed.prefix}{name}"
    return prefixed, name


@torch.no_grad()
def _patch(weight: Tensor, patch: WeightPatch, strength: float, device: torch.device) -> Tensor:
    """Returns weight + strength · delta on the weight's device and in its type."""
    total = weight.detach().to(device=device, dtype=torch.float32, copy=True)
    factors = (patch.up, patch.down) if isinstance(patch, LoRA) else (patch.delta,)
    first, *others = (factor.to(device=device, dtype=torch.float32) for factor in factors)
    delta = first @ others[0] if others else first
    if delta.shape != total.shape:
        total = F.pad(total, (0, 0, 0, 0, 0, delta.shape[1] - total.shape[1]))
    return total.add_(delta, alpha=strength).to(device=weight.device, dtype=weight.dtype)
