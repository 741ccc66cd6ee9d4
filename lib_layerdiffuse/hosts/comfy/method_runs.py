"""What a method does while a sampler runs with the MODEL that it was put on, or a clone of it.

Other nodes clone that MODEL and patch it further, and each may be sampled more than once. So all is
found anew for each run, of the patcher that samples, and let go after it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from operator import attrgetter
from typing import Any
from uuid import NAMESPACE_OID, uuid5

import torch
from torch import Tensor
from torch.nn import functional as F

from ...errors import MissingCapabilityError
from ...host import Injection
from ...nets.attention_sharing import SharingRun
from ...weights.patches import CONV_IN, Diff, WeightPatch
from ..attention_swap import AttentionSwap
from ..patchers.attention_patches import check_patched
from ..patchers.merging import ByManager
from ..patchers.others import check_others
from ..patchers.patched_weights import check_merged
from ..timesteps import acts_down_to
from .comfy_parts import Comfy
from .run_checks import check_call, check_run, named
from .unet_calls import UnetCall

SEVERAL = "multigpu"
"""Where a patcher has those of its network's copies on other devices."""


class MethodRuns:
    """The sampling runs of one method.

    Args:
        comfy: The dialect.
        injection: The method's.
        merged: The patches that are on the MODEL.
        written: The same, as they are written there.
        beside: What the first convolution has for the given latents, `o i 3 3`, if anything.
    """

    def __init__(
        self,
        comfy: Comfy,
        injection: Injection,
        merged: Mapping[str, WeightPatch],
        written: list[Any],
        beside: Tensor | None,
    ) -> None:
        self.calls = 0
        self._comfy, self._injection = comfy, injection
        self._merged, self._written, self._beside = merged, written, beside
        self._base: Any = None
        self.end()

    def around_sampler(self, executor: Any, noise: Tensor, *others: Any, **more: Any) -> Any:
        """Returns what a sampler gives, once it is known that the method can act in it."""
        base = executor.class_obj.model_patcher
        check_run(self._injection, noise, base.model_options)
        check_patched(base, self._injection.method, noise)
        if self._injection.stop_at < 1 and base.get_additional_models_with_key(SEVERAL):
            raise MissingCapabilityError(
                "On several GPUs a method cannot stop acting in the midst of a run.",
                "Set stop_at to 1, or bypass the MultiGPU node.",
                field="stop_at",
            )
        self._begin(base)
        try:
            return executor(noise, *others, **more)
        finally:
            self.end()

    def around_unet(self, call: UnetCall) -> Any:
        """Returns what a UNet call gives with the method, while it acts."""
        self.calls += 1
        model = call.executor.class_obj
        if self._base is None or (self._alone(model) and self._base is not model.current_patcher):
            self._begin(model.current_patcher)
        stop_at = self._injection.stop_at
        acts = acts_down_to(stop_at, model.model_sampling.percent_to_sigma(stop_at), call.sigmas)
        during = self._shared if self._injection.sharing is not None else self._patched
        with during(acts, model, call.x, call.options):
            return call.run()

    def end(self) -> None:
        """Lets go of the run, and takes off what the host does not know that it has merged."""
        base, self._base = self._base, None
        self._merging: ByManager | None = None
        self._swap: tuple[Any, AttentionSwap] | None = None
        self._checked = False
        if base is not None:
            give_back(self._comfy, base)

    def _begin(self, base: Any) -> None:
        self.end()
        self._base = base

    def _alone(self, model: Any) -> bool:
        """Whether a call is for the network that the run loads, and no copy of another device."""
        return self._base is not None and self._base.model is model

    @contextmanager
    def _shared(self, acts: bool, model: Any, x: Tensor, options: Any) -> Iterator[None]:
        rows = check_call(self._injection, x, options)
        if not acts:
            yield
            return
        if not self._checked:
            given = self._base.model_options | {"transformer_options": options}
            check_others(given, self._injection, named)
            self._checked = True
        net = model.diffusion_model
        if self._swap is None or self._swap[0] is not net:
            assert self._injection.sharing is not None
            # What did not fit ComfyUI has left on the CPU, and another MODEL may want another type.
            self._injection.sharing.to(x.device, self._comfy.computes_in(model))
            self._swap = net, shared(self._comfy, net, self._injection)
        with self._swap[1].during_call(rows):
            yield

    @contextmanager
    def _patched(self, acts: bool, model: Any, x: Tensor, options: Any) -> Iterator[None]:
        injection = self._injection
        check_call(injection, x, options)
        if injection.stop_at < 1:
            if self._merging is None:
                self._merging = self._switching(model)
            self._merging.switch(acts, x)
        if acts and not self._checked and self._alone(model):
            before = ByManager(self._comfy.memory, self._base, self._base, []).before
            check_merged(before, model, self._merged, injection.strength)
            self._checked = True
        with self._given(model) if acts else nullcontext():
            yield

    def _switching(self, model: Any) -> ByManager:
        """Returns what loads the patcher that samples without the method's patches, and with."""
        written = {id(patch) for patch in self._written}
        plain = self._base.clone()
        kept = {
            key: [entry for entry in entries if id(entry[1]) not in written]
            for key, entries in plain.patches.items()
        }
        plain.patches = {key: entries for key, entries in kept.items() if entries}
        plain.patches_uuid = uuid5(NAMESPACE_OID, f"{self._base.patches_uuid} plain")
        loaded = self._comfy.memory.loaded_models(only_currently_used=True)
        others = [patcher for patcher in loaded if patcher.model is not model]
        return ByManager(self._comfy.memory, plain, self._base, others)

    def _given(self, model: Any) -> Any:
        """Returns a context in which the first convolution sees the given latents, too."""
        concat, beside = self._injection.concat, self._beside
        if concat is None or beside is None:
            return nullcontext()
        conv = model.get_submodule(CONV_IN.removesuffix(".weight"))
        strength = self._injection.strength

        def add(_: Any, __: Any, out: Tensor) -> Tensor:
            more = F.conv2d(concat.to(out), strength * beside.to(out), padding=1)
            return out + more

        return removing(conv.register_forward_hook(add))


def narrowed(patches: Mapping[str, WeightPatch]) -> tuple[dict[str, WeightPatch], Tensor | None]:
    """Returns patches for an unchanged first convolution, and what a wider one has beside it.

    The host could pad the weight, but then a user's LoRA for it would no longer fit, and with
    dynamic VRAM its layer would lose its place.
    """
    wide = patches.get(CONV_IN)
    if not isinstance(wide, Diff) or wide.delta.shape[1] == 4:
        return dict(patches), None
    return {**patches, CONV_IN: Diff(wide.delta[:, :4])}, wide.delta[:, 4:]


def shared(comfy: Comfy, net: Any, injection: Injection) -> AttentionSwap:
    """Returns a UNet's attention as the sharing module computes it.

    Its layers are called and never looked at: with dynamic VRAM what their `weight` holds is not
    what they compute with.

    Raises:
        ArchMismatchError: The UNet lacks attention modules of SD1.5's.
    """
    assert injection.sharing is not None
    run = SharingRun(injection.sharing, injection.control, attend=comfy.attention)
    return AttentionSwap(net, run, projection=attrgetter("__call__"))


def give_back(comfy: Comfy, patcher: Any) -> None:
    """Gives a network its weights back where the host does not know of a broken-off merge."""
    ByManager(comfy.memory, patcher, patcher, []).end(went_well=False)


@contextmanager
def removing(hook: torch.utils.hooks.RemovableHandle) -> Iterator[None]:
    """Removes a hook when the context ends."""
    try:
        yield
    finally:
        hook.remove()
