"""Attention that frames share, in A1111's SD1.5 UNet."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from modules import devices, script_callbacks, shared
from torch import Tensor, nn

from ...errors import HostError, LayerDiffuseError, MissingCapabilityError
from ...host import Injection
from ...nets.attention_sharing import BaseAttention, SharingRun, attend
from ..attention_swap import AttentionSwap
from . import memory

AsRaised = Callable[[LayerDiffuseError], Exception]


class SharedAttention:
    """What an attention-sharing method changes for the length of a UNet call.

    Args:
        sd_model: The loaded checkpoint.
        injection: One with a sharing module.
        as_raised: Returns the exception to raise for an error of ours in a UNet call.
        undo: Takes back what this changes until then.

    Raises:
        ArchMismatchError: The UNet lacks attention layers that must be shared.
        MissingCapabilityError: A hypernetwork is loaded.
    """

    def __init__(
        self, sd_model: Any, injection: Injection, as_raised: AsRaised, undo: ExitStack
    ) -> None:
        assert injection.sharing is not None
        _refuse_hypernetworks()
        unet = sd_model.model.diffusion_model
        sharing = injection.sharing.to(device=devices.device, dtype=devices.dtype_unet)
        if memory.is_scarce(sd_model):
            undo.callback(sharing.to, "cpu")
        self._run = _Run(SharingRun(sharing, injection.control, _attend), as_raised)
        self._swap = AttentionSwap(unet, self._run, projection=_called)
        self._during, self._composed = ExitStack(), False
        if sharing.frames > 1:
            script_callbacks.on_cfg_denoiser(self._look_at_rows)
            undo.callback(script_callbacks.remove_callbacks_for_function, self._look_at_rows)

    def begin(self, x: Tensor) -> None:
        """Makes the frames of a UNet call's rows share attention until `end`.

        Raises:
            HostError: The rows are not whole sets.
            MissingCapabilityError: They are not in the order of sets.
        """
        if self._composed:
            raise MissingCapabilityError(
                "This WebUI mixes up the layers of a set where AND joins prompts.",
                "Take AND out of the prompt, or choose a method that makes one layer.",
            )
        self._run.begin_call(len(x))
        self._during.enter_context(self._swap.during_call(len(x)))

    def end(self) -> bool:
        """Gives the attention modules back as they were; returns whether one has run."""
        self._during.close()
        return self._run.ran

    def check(self) -> None:
        """Does nothing: which attention a method has is seen where it is put on."""

    def _look_at_rows(self, params: Any) -> None:
        """Notes, for the UNet calls of a step, whether an image has several prompts."""
        self._composed = params.text_cond.shape[0] != params.text_uncond.shape[0]


def _refuse_hypernetworks() -> None:
    if shared.loaded_hypernetworks:
        raise MissingCapabilityError(
            "A hypernetwork changes the UNet's attention, which this method has to change.",
            "Leave hypernetworks out of the prompt for SD1.5 layer methods.",
        )


def _called(layer: nn.Module) -> Callable[[Tensor], Tensor]:
    """Returns the layer's bare call: its class merges LoRAs and casts weights when it is called."""
    return layer.__call__


def _attend(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    if not shared.opts.upcast_attn:
        return attend(q, k, v, heads)
    return attend(q.float(), k.float(), v.float(), heads).to(q.dtype)


class _Run:
    """A sharing run that computes in the UNet's own type, whatever autocast makes of its inputs."""

    def __init__(self, run: SharingRun, as_raised: AsRaised) -> None:
        self._inner, self._as_raised = run, as_raised
        self._slots: set[int] = set()

    @property
    def ran(self) -> bool:
        return bool(self._slots)

    def begin_call(self, rows: int, part: int | None = None) -> None:
        self._slots.clear()
        self._inner.begin_call(rows, part)

    def __call__(
        self,
        slot: int,
        base: BaseAttention,
        x: Tensor,
        context: Tensor | None = None,
        value: Tensor | None = None,
    ) -> Tensor:
        """Returns attention module `slot`'s output.

        Raises:
            Exception: What stands for an error of ours in a UNet call.
        """
        try:
            self._refuse_reference(slot, context)
            others = (None if t is None else t.to(devices.dtype_unet) for t in (context, value))
            return self._inner(slot, base, x.to(devices.dtype_unet), *others)
        except LayerDiffuseError as error:
            raise self._as_raised(error) from error

    def _refuse_reference(self, slot: int, context: Tensor | None) -> None:
        """Refuses what makes images look at another one: attention to more, or a second run."""
        looks_elsewhere = slot % 2 == 0 and context is not None
        if looks_elsewhere or slot in self._slots:
            raise HostError(
                "An extension makes the UNet look at another image, by the attention that this "
                "method has to change.",
                "Turn off ControlNet's Reference, StyleAlign and the like for SD1.5 layer methods.",
            )
        self._slots.add(slot)
