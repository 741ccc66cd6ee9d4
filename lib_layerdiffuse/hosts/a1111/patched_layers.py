"""Layers of the UNet that compute with a method's weights beside their own.

The host merges the user's LoRAs within a layer's class's `forward` and restores the parameter in
place from a copy that it took when the first LoRA came. It also moves, casts and stores parameters
in 8 bits. So no parameter is touched: a layer gets a `forward` of its own, which lets its class
compute and adds what the difference of the weights makes of the same input.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...weights.patches import LoRA, WeightPatch, check_shape, lacking_layers


@dataclass(eq=False)
class Switch:
    """What the layers of one attachment ask at each of their calls.

    Attributes:
        acts: Whether the method acts now.
        ran: The parameters, by name, to which something was added since this was last cleared.
        concat: Latents that a widened convolution takes beside its input, `1 c h w`.
    """

    acts: bool = False
    ran: set[str] = field(default_factory=set)
    concat: Tensor | None = None


class PatchedLayer:
    """What a layer computes while it has patches; called in the place of its `forward`.

    Args:
        layer: One whose class is among `_MADE_OF`.
        patches: By parameter name, whose last part is `weight` or `bias`: the factors whose
            product is added to it.
        strength: Their scale.
        switch: Whether they act.
        dtype: The type that the UNet computes in.
    """

    def __init__(
        self,
        layer: nn.Module,
        patches: Mapping[str, tuple[Tensor, ...]],
        strength: float,
        switch: Switch,
        dtype: torch.dtype,
    ) -> None:
        self._layer, self._patches, self._strength = layer, dict(patches), strength
        self._switch, self._dtype = switch, dtype
        self._made_of = next(make for kind, make in _MADE_OF.items() if isinstance(layer, kind))
        self._before: Callable[..., Tensor] | None = vars(layer).get("forward")
        layer.forward = self

    def remove(self) -> None:
        """Gives the layer the `forward` that it had.

        Another extension may have put one around this meanwhile; it then finds the plain layer.
        """
        self._patches.clear()
        if vars(self._layer).get("forward") is not self:
            return
        if self._before is not None:
            self._layer.forward = self._before
        else:
            del self._layer.forward

    def __call__(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        # Not bound before: the host exchanges its classes' forward while it runs.
        plain = self._before or type(self._layer).forward.__get__(self._layer)
        y: Tensor = plain(x, *args, **kwargs)
        if not self._switch.acts:
            return y
        for name, factors in self._patches.items():
            placed = [factor.to(device=x.device, dtype=self._dtype) for factor in factors]
            is_bias = name.endswith(".bias")
            delta = _bias(self._layer, placed[0]) if is_bias else self._product(x, placed)
            y = torch.add(y, delta.to(y), alpha=self._strength)
            self._switch.ran.add(name)
        return y

    def _product(self, x: Tensor, factors: list[Tensor]) -> Tensor:
        x = x.to(self._dtype)
        concat = self._switch.concat
        wide = factors[0].shape[1] if factors[0].ndim == 4 else 0
        if concat is not None and wide > x.shape[1]:
            x = torch.cat([x, concat.to(x).expand(len(x), -1, -1, -1)], dim=1)
        for factor in factors:
            x = self._made_of(self._layer, x, factor)
        return x


def _linear(_: Any, x: Tensor, delta: Tensor) -> Tensor:
    return F.linear(x, delta)


def _convolution(layer: Any, x: Tensor, delta: Tensor) -> Tensor:
    return layer._conv_forward(x, delta, None)  # With its stride and its kind of padding.


def _group_norm(layer: Any, x: Tensor, delta: Tensor) -> Tensor:
    return F.group_norm(x.float(), layer.num_groups, delta.float(), None, layer.eps)


def _layer_norm(layer: Any, x: Tensor, delta: Tensor) -> Tensor:
    return F.layer_norm(x.float(), layer.normalized_shape, delta.float(), None, layer.eps)


_MADE_OF: dict[type[nn.Module], Callable[[Any, Tensor, Tensor], Tensor]] = {
    nn.Linear: _linear,
    nn.Conv2d: _convolution,
    nn.GroupNorm: _group_norm,
    nn.LayerNorm: _layer_norm,
}


def _bias(layer: nn.Module, delta: Tensor) -> Tensor:
    """Returns a bias as it is added to the layer's result."""
    return delta.view(-1, 1, 1) if isinstance(layer, (nn.Conv2d, nn.GroupNorm)) else delta


@dataclass
class _Found:
    layer: nn.Module
    factors: dict[str, tuple[Tensor, ...]]


def layers_of(model: nn.Module, patches: Mapping[str, WeightPatch]) -> list[_Found]:
    """Returns the layers that patches are for, with the factors for each of their parameters.

    Args:
        model: What has the UNet as `diffusion_model`.
        patches: By the parameter's name in it.

    Raises:
        ChecksumError: The model lacks a parameter, or it has another shape.
    """
    modules = dict(model.named_modules())
    found: dict[str, _Found] = {}
    lacking = []
    for key, patch in patches.items():
        path, _, name = key.rpartition(".")
        layer = modules.get(path)
        known = layer is not None and isinstance(layer, tuple(_MADE_OF))
        parameter = layer._parameters.get(name) if layer is not None and known else None
        if layer is None or parameter is None:
            lacking.append(key)
            continue
        check_shape(key, patch, parameter.shape)
        factors = (patch.down, patch.up) if isinstance(patch, LoRA) else (patch.delta,)
        found.setdefault(path, _Found(layer, {})).factors[key] = factors
    if lacking:
        raise lacking_layers(lacking)
    return list(found.values())
