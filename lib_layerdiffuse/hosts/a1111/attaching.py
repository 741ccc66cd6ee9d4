"""An injection on A1111's UNet, and off again without a trace.

The host has no patcher whose clone could be changed. Hooks of the module see each call of the UNet,
also where another extension has put its own `forward` into it, as ControlNet does.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Protocol

import torch
from modules import devices
from torch import Tensor, nn

from ...errors import HostError, LayerDiffuseError
from ...host import Injection
from ...weights.patches import CONV_IN
from ..timesteps import acts_at
from ..whole_images import check_whole
from . import memory
from .patched_layers import PatchedLayer, Switch, layers_of
from .shared_attention import SharedAttention

AsRaised = Callable[[LayerDiffuseError], Exception]


class A1111Attachment:
    """An injection in force on the UNet, until `detach`; counts the UNet calls.

    Attributes:
        calls: UNet calls that went through it.
        unet: The host's own UNet, which it is on.
    """

    def __init__(self, unet: nn.Module) -> None:
        self.calls, self.unet = 0, unet
        self._undo = ExitStack()

    def detach(self) -> None:
        """Gives the UNet back as it was; a second time does nothing."""
        self._undo.close()


class _Change(Protocol):
    def begin(self, x: Tensor) -> None:
        """Lets the method act for one UNet call."""
        ...

    def end(self) -> bool:
        """Lets it act no more; returns whether it has acted in this call."""
        ...

    def check(self) -> None:
        """Checks, after a call in which it has acted, that all of it has.

        Raises:
            HostError: A part was left out.
        """
        ...


def attach(sd_model: Any, injection: Injection, as_raised: AsRaised) -> A1111Attachment:
    """Returns the attachment of an injection to the loaded checkpoint's UNet.

    Args:
        sd_model: The checkpoint; its UNet is changed from its next call on.
        injection: What to put on it.
        as_raised: Returns the exception to raise for an error of ours in a UNet call.

    Raises:
        ChecksumError: The weight file has keys or shapes that the UNet lacks.
        ArchMismatchError: The UNet lacks attention layers that must be shared.
        MissingCapabilityError: Something else changes the attention that must be shared.
    """
    unet = sd_model.model.diffusion_model
    attachment = A1111Attachment(unet)
    with ExitStack() as undo:
        change: _Change = (
            SharedAttention(sd_model, injection, as_raised, undo)
            if injection.sharing is not None
            else _PatchedWeights(sd_model, injection, undo)
        )
        calls = _Calls(attachment, change, injection.stop_at, len(sd_model.alphas_cumprod))
        undo.callback(calls.after)
        before = unet.register_forward_pre_hook(calls.raising(as_raised), with_kwargs=True)
        undo.callback(before.remove)
        after = unet.register_forward_hook(calls.checking(as_raised), always_call=True)
        undo.callback(after.remove)
        attachment._undo = undo.pop_all()
    return attachment


class _Calls:
    """Lets a method act in the UNet calls of its part of the schedule, and counts them."""

    def __init__(
        self, attachment: A1111Attachment, change: _Change, stop_at: float, timesteps: int
    ) -> None:
        self._attachment, self._change = attachment, change
        self._stop_at, self._of = stop_at, timesteps
        self._acts, self._checked = False, False

    def before(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.after()  # Should another extension have kept the last call from coming there.
        x, timesteps = (
            args[place] if place < len(args) else kwargs[name]
            for place, name in enumerate(("x", "timesteps"))
        )
        self._acts = acts_at(timesteps, self._stop_at, self._of)
        if self._acts:
            self._change.begin(x)
        else:
            self._attachment.calls += 1

    def after(self) -> bool:
        """Ends a call in which the method acts; returns whether it has."""
        if not self._acts:
            return False
        self._acts = False
        ran = self._change.end()
        self._attachment.calls += ran
        return ran

    def checking(self, as_raised: AsRaised) -> Callable[..., None]:
        """Returns `after` as a hook, which looks at the first whole call."""

        def hook(_: nn.Module, __: Any, result: Tensor | None) -> None:
            if self.after() and result is not None and not self._checked:
                self._checked = True
                try:
                    self._change.check()
                except LayerDiffuseError as error:
                    raise as_raised(error) from error

        return hook

    def raising(self, as_raised: AsRaised) -> Callable[..., None]:
        """Returns `before` as a hook."""

        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            try:
                self.before(args, kwargs)
            except LayerDiffuseError as error:
                raise as_raised(error) from error

        return hook


class _PatchedWeights:
    """The UNet's layers that compute with a method's weights beside their own."""

    def __init__(self, sd_model: Any, injection: Injection, undo: ExitStack) -> None:
        self._switch, self._concat = Switch(concat=injection.concat), injection.concat
        self._kinds: dict[tuple[int, bool], list[str]] = {}
        dtype = devices.dtype_unet
        keeps = not memory.is_scarce(sd_model)  # Elsewhere each comes for its layer's call only.
        for found in layers_of(sd_model.model, injection.patches or {}):
            factors = {
                name: tuple(_on_device(t, dtype) if keeps else t for t in given)
                for name, given in found.factors.items()
            }
            layer = PatchedLayer(found.layer, factors, injection.strength, self._switch, dtype)
            undo.callback(layer.remove)
            for key, given in factors.items():
                self._kinds.setdefault((len(given), key == CONV_IN), []).append(key)

    def begin(self, x: Tensor) -> None:
        if self._concat is not None:
            check_whole(x, self._concat)
        self._switch.acts = True
        self._switch.ran.clear()

    def end(self) -> bool:
        self._switch.acts = False
        return bool(self._switch.ran)

    def check(self) -> None:
        for keys in self._kinds.values():
            if self._switch.ran.isdisjoint(keys):
                raise HostError(
                    f"An extension keeps the method's weights from the UNet: {keys[0]} computes "
                    "without them.",
                    "Turn off extensions that change the UNet's layers.",
                )


def _on_device(factor: Tensor, dtype: torch.dtype) -> Tensor:
    """Returns a factor where the UNet computes, in the UNet's type unless its own is narrower."""
    narrower = factor.dtype.itemsize < dtype.itemsize
    return factor.to(devices.device, None if narrower else dtype)
