"""Attention that frames share, in a UNet of ldm's or of diffusers, for the length of one call.

The modules stay, and so do their parameters' names; only their `forward` is another meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol

from torch import Tensor, nn

from ..errors import ArchMismatchError, HostError
from ..nets.attention_sharing import BaseAttention, Projection
from ..weights.patches import ATTENTION_SLOTS

# Where hosts keep what a layer computes beside its weight: LoRAs that are merged in each call,
# because the layer is offloaded or the user wants it so, and the scale of 8-bit weights.
_LAZY = (
    "forge_online_loras",
    "weight_function",
    "bias_function",
    "weight_lowvram_function",
    "bias_lowvram_function",
)


class Sharing(Protocol):
    """A sharing module at work, as `SharingRun` or with a host's ways around it."""

    def begin_call(self, rows: int, part: int | None = None) -> None:
        """Notes the batch of the coming UNet call."""
        ...

    def __call__(
        self,
        slot: int,
        base: BaseAttention,
        x: Tensor,
        context: Tensor | None = None,
        value: Tensor | None = None,
    ) -> Tensor:
        """Returns attention module `slot`'s output."""
        ...


class AttentionSwap:
    """The 32 attention modules of an SD1.5 UNet, and what makes frames share them.

    Args:
        net: The UNet itself.
        run: The sharing module at work.
        projection: Returns a layer of theirs as `BaseAttention` wants it; None to look at the
            layer for what it needs.
        paths: Their names in this UNet.

    Raises:
        ArchMismatchError: The UNet lacks one of them.
    """

    def __init__(
        self,
        net: nn.Module,
        run: Sharing,
        projection: Callable[[nn.Module], Projection] | None = None,
        paths: Sequence[str] = ATTENTION_SLOTS,
    ) -> None:
        self._net, self._run, self._projection = net, run, projection or _projection
        try:
            self._modules: list[Any] = [net.get_submodule(path) for path in paths]
        except AttributeError as error:
            raise ArchMismatchError(
                f"The checkpoint's UNet lacks some of SD1.5's {len(paths)} attention layers.",
                "Choose an ordinary SD1.5 checkpoint.",
                field="method",
            ) from error

    @contextmanager
    def during_call(self, rows: int) -> Iterator[None]:
        """Makes the frames share attention until the context ends, however it does.

        Args:
            rows: Rows of the call that belong to one conditioning.
        """
        run = self._run
        hook = self._net.register_forward_pre_hook(
            lambda _, given: run.begin_call(len(given[0]), rows)
        )
        before = [vars(module).get("forward") for module in self._modules]
        try:
            for slot, module in enumerate(self._modules):
                module.forward = partial(_shared_forward, run, self._projection, slot, module)
            yield
        finally:
            hook.remove()
            for module, forward in zip(self._modules, before, strict=True):
                _restore_forward(module, forward)


def _restore_forward(module: nn.Module, forward: Callable[..., Tensor] | None) -> None:
    if forward is not None:
        module.forward = forward
    elif "forward" in vars(module):
        del module.forward


def _shared_forward(
    run: Sharing,
    projection: Callable[[nn.Module], Projection],
    slot: int,
    module: Any,
    x: Tensor,
    context: Tensor | None = None,
    *others: Any,
    value: Tensor | None = None,
    encoder_hidden_states: Tensor | None = None,
    **_: Any,
) -> Tensor:
    context = encoder_hidden_states if context is None else context  # As diffusers calls it.
    if any(other is not None for other in others):  # Values to one host, a mask to another.
        raise HostError(
            "An extension or node calls the UNet's attention in a way of its own.",
            "Turn off what changes attention for SD1.5 layer methods.",
        )
    layers = (module.to_q, module.to_k, module.to_v, module.to_out[0])
    base = BaseAttention(module.heads, *map(projection, layers))
    return run(slot, base, x, context, value)


def _projection(layer: nn.Module) -> Projection:
    """Returns the layer, or its bare call where more than its weight decides what it computes."""
    weight = getattr(layer, "weight", None)
    more = (
        *(getattr(layer, name, None) for name in _LAZY),
        getattr(layer, "scale_weight", None) is not None,
        type(weight) not in (Tensor, nn.Parameter),
        "forward" in vars(layer),
        layer._forward_hooks,
        layer._forward_pre_hooks,
    )
    return layer.__call__ if any(more) else layer
