"""An injection on a UNet of the diffusers package, and off again without a trace.

While an injection is attached, a hook before each UNet call switches it on or off by the timestep.
Weight patches replace the module's parameter objects and leave the original ones as they are, so
that taking the patches off is putting the same objects back. Attention sharing replaces the 32
attention modules' `forward` for the length of each call.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, Protocol

import torch
from torch import nn

from ...host import Injection
from ...nets.attention_sharing import SharingRun
from ...weights.patches import ATTENTION_SLOTS, lacking_layers
from ..attention_swap import AttentionSwap
from ..timesteps import acts_at
from ..whole_images import check_whole
from .parameter_names import diffusers_name, module_names
from .patching import PatchedParameter, patched_parameter


class UnetAttachment:
    """An injection in force on a UNet, until `detach`; counts the UNet calls."""

    def __init__(self, unet: Any, undo: ExitStack) -> None:
        self.calls, self.unet = 0, unet
        self._undo = undo

    def detach(self) -> None:
        """Gives the UNet back as it was; a second time does nothing."""
        self._undo.close()


class _Change(Protocol):
    def switch(self, acts: bool, rows: int = 0) -> None:
        """Makes the method act, or not, in the UNet's next call, for so many rows."""
        ...

    def end_call(self) -> None:
        """Takes off what is there for the length of a call only."""
        ...


def attach(
    unet: Any, injection: Injection, train_timesteps: int, device: torch.device
) -> UnetAttachment:
    """Returns the attachment of an injection to a `UNet2DConditionModel`.

    Args:
        unet: Changed from its next call on.
        injection: What to put on it.
        train_timesteps: Timesteps of the scheduler's training schedule.
        device: Where the UNet computes.

    Raises:
        ChecksumError: The weight file has keys or shapes that the UNet lacks.
        ArchMismatchError: The UNet lacks attention layers that must be shared.
    """
    names = module_names(unet.config)
    with ExitStack() as undo:
        change: _Change
        if injection.sharing is not None:
            change = _SharedAttention(unet, injection, names, device)
            if next(unet.parameters()).device.type != device.type:  # It is offloaded, too.
                undo.callback(injection.sharing.to, "cpu")
        else:
            change = _PatchedWeights(unet, injection, names, device)
        undo.callback(change.switch, False)
        attachment = UnetAttachment(unet, undo)
        hook = _before_call(attachment, change, injection, train_timesteps)
        undo.callback(unet.register_forward_pre_hook(hook, with_kwargs=True).remove)
        after = unet.register_forward_hook(lambda *_: change.end_call(), always_call=True)
        undo.callback(after.remove)
        attachment._undo = undo.pop_all()
    return attachment


def _before_call(
    attachment: UnetAttachment, change: _Change, injection: Injection, train_timesteps: int
) -> Any:
    """Returns a forward pre-hook that lets the method act in its part of the schedule."""

    def before(_unet: nn.Module, args: Any, kwargs: dict[str, Any]) -> Any:
        attachment.calls += 1
        sample, timestep, *rest = args
        acts = acts_at(timestep, injection.stop_at, train_timesteps)
        change.switch(acts, len(sample))
        if acts and injection.concat is not None:
            check_whole(sample, injection.concat)
            concat = injection.concat.to(sample).expand(len(sample), -1, -1, -1)
            sample = torch.cat([sample, concat], dim=1)
        return (sample, timestep, *rest), kwargs

    return before


class _PatchedWeights:
    """The UNet's parameters and their patched stand-ins, one of which is in the UNet."""

    def __init__(
        self, unet: nn.Module, injection: Injection, names: Mapping[str, str], device: torch.device
    ) -> None:
        patches = dict(injection.patches or {})
        found = {key: diffusers_name(names, key) for key in patches}
        owners = {key: _owner(unet, name) if name else None for key, name in found.items()}
        unknown = [key for key, owner in owners.items() if owner is None]
        if unknown:
            raise lacking_layers(unknown)
        self._acts: bool | None = False
        self._parameters: list[PatchedParameter] = []
        for key, owner in owners.items():
            assert owner is not None
            made = patched_parameter(key, *owner, patches[key], injection.strength, device)
            self._parameters.append(made)

    def switch(self, acts: bool, rows: int = 0) -> None:
        if acts is not self._acts:
            self._acts = None  # Neither, should this be interrupted.
            for parameter in self._parameters:
                parameter.put(acts)
            self._acts = acts

    def end_call(self) -> None:
        pass


def _owner(unet: nn.Module, name: str) -> tuple[nn.Module, str] | None:
    """Returns the module that has the parameter and its name there."""
    path, _, parameter = name.rpartition(".")
    try:
        module = unet.get_submodule(path)
    except AttributeError:
        return None
    return (module, parameter) if module._parameters.get(parameter) is not None else None


class _SharedAttention:
    """The UNet's attention modules, whose frames share attention while the method acts."""

    def __init__(
        self, unet: nn.Module, injection: Injection, names: Mapping[str, str], device: torch.device
    ) -> None:
        assert injection.sharing is not None
        paths = [diffusers_name(names, slot) or slot for slot in ATTENTION_SLOTS]
        self._run = SharingRun(injection.sharing, injection.control)
        self._swap = AttentionSwap(unet, self._run, paths=paths)
        self._during = ExitStack()
        injection.sharing.to(device=device, dtype=_dtype(unet))

    def switch(self, acts: bool, rows: int = 0) -> None:
        self._during.close()
        if acts:
            self._run.begin_call(rows)
            self._during.enter_context(self._swap.during_call(rows))

    def end_call(self) -> None:
        self._during.close()


def _dtype(unet: nn.Module) -> torch.dtype:
    return next(unet.parameters()).dtype
