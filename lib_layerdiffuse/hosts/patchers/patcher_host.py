"""`PatcherHost`: the checkpoint that a host with a model patcher has loaded.

The caller's UNet is never edited: everything rides on a clone's options. Weight patches go through
the host's own patcher. Attention sharing replaces the 32 attention modules' `forward` for the
duration of each UNet call only, so the parameters stay visible to the host and nothing is left
behind by an exception.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import LayerDiffuseError, MissingCapabilityError
from ...host import Capabilities, Injection
from ...methods import Arch, LayerMethod
from ...nets.attention_sharing import SharingRun
from ...weights.patches import CONV_IN
from ..attention_swap import AttentionSwap
from ..timesteps import acts_down_to
from . import loaded_nets
from .attention_patches import check_patched
from .dialect import Dialect
from .merging import Merging
from .others import Named, UnetCall, check_others, inner_call
from .patched_weights import Applied, patch_weights
from .patcher_vae import posterior

_AsRaised = Callable[[LayerDiffuseError], Exception]


@dataclass(eq=False)
class _Calls:
    """UNet calls; the UNet holds this and not its attachment, which holds the UNet."""

    begun: int = 0
    ended: int = 0

    @contextmanager
    def one(self) -> Iterator[None]:
        """Counts a call that the context runs."""
        self.begun += 1
        yield
        self.ended += 1


class PatcherAttachment:
    """An injection on one UNet clone.

    Args:
        unet: The clone.
        merging: Of its weights; None where it has none.
    """

    def __init__(self, unet: Any, merging: Merging | None) -> None:
        self.unet = unet
        self.counted = _Calls()
        self._merging = merging

    @property
    def calls(self) -> int:
        """UNet calls that went through it."""
        return self.counted.begun

    def detach(self) -> None:
        """Takes off what the host would leave on the UNet."""
        merging, self._merging = self._merging, None
        went_well = 0 < self.counted.begun == self.counted.ended
        if merging is not None:
            merging.end(went_well=went_well)


class PatcherHost:
    """The checkpoint that the host has loaded.

    Args:
        dialect: The host's.
        sd_model: The WebUI's `p.sd_model`.
        as_raised: Returns the exception to raise for an error of ours in a UNet call, since the
            host swallows some kinds; None to raise the error itself.
        named: Returns what a user calls the extension that a file of code belongs to.
    """

    capabilities = Capabilities()

    def __init__(
        self,
        dialect: Dialect,
        sd_model: Any,
        as_raised: _AsRaised | None = None,
        named: Named = str,
    ) -> None:
        self.dialect, self.sd_model = dialect, sd_model
        self._as_raised, self._named = as_raised, named

    def arch(self) -> Arch | None:
        """Returns the checkpoint's family; None for one that no method fits."""
        if getattr(self.sd_model, "is_sd1", False):
            return Arch.SD15
        return Arch.SDXL if getattr(self.sd_model, "is_sdxl", False) else None

    def check(self, method: LayerMethod) -> None:
        """Checks that the UNet takes four latent channels, as an ordinary checkpoint's does.

        Raises:
            MissingCapabilityError: It is an inpainting or editing checkpoint.
        """
        # Not the weight's shape: the last job's wider one stays merged until the next load.
        model = self.sd_model.forge_objects.unet.model
        conv_in = model.get_submodule(CONV_IN.removesuffix(".weight"))
        channels = conv_in.in_channels
        if channels != 4:
            raise MissingCapabilityError(
                "The checkpoint is one for inpainting or editing: its UNet takes "
                f"{channels} channels, not 4.",
                "Choose an ordinary checkpoint instead of one for inpainting or editing.",
                field="method",
            )

    def encode(self, image: Tensor) -> Tensor:
        """Returns the sampler's latent `b 4 h w` of `b 3 H W` in [0, 1]."""
        vae = self.sd_model.forge_objects.vae
        return self.sampler_latent(vae.encode(image.movedim(1, -1)))

    def posterior(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Returns mean and standard deviation of `b 3 H W` in [0, 1]: `b 4 h w`, VAE's scale.

        Raises:
            HostError: Memory does not suffice even for tiles, or the result is not finite.
        """
        return posterior(self.dialect, self.sd_model.forge_objects.vae, image)

    def vae_latent(self, latent: Tensor) -> Tensor:
        """Returns the sampler's latent on the VAE's own scale."""
        return self.dialect.latents(self.sd_model.forge_objects).process_out(latent)

    def sampler_latent(self, latent: Tensor) -> Tensor:
        """Returns the VAE's latent on the sampler's scale."""
        return self.dialect.latents(self.sd_model.forge_objects).process_in(latent)

    def sigmas(self) -> Tensor:
        """Returns the model's own sigmas, one for each of its timesteps, rising."""
        return self.dialect.schedule(self.sd_model.forge_objects.unet.model).sigmas

    def memory_errors(self) -> tuple[type[BaseException], ...]:
        """Returns the host's own types of errors that say that memory is full."""
        return self.dialect.memory_errors()

    def place(self, net: nn.Module, values: int, dtype: torch.dtype | None = None) -> int:
        """Loads a network onto the device through the host's memory manager.

        Args:
            net: A transparent decoder's or encoder's network.
            values: How many values it will hold, for which memory is made free.
            dtype: The type to compute in; None for the host's choice.

        Returns:
            How many bytes are free then.
        """
        return loaded_nets.place(self.dialect, net, values, dtype)

    def attach(self, injection: Injection) -> PatcherAttachment:
        """Returns the injection on a clone of the UNet, for the coming sampling run to use.

        Raises:
            ChecksumError: The weight file has keys or shapes that the UNet lacks.
            MissingCapabilityError: Others have put on it what the method cannot work with.
        """
        loaded_nets.unload_sharing_but(self.dialect, injection.sharing)
        plain = self.sd_model.forge_objects.unet
        check_others(plain.model_options, injection, self._named)
        merging: Merging | None = None
        if injection.sharing is not None:
            unet = plain.clone()
            applied = self._share_attention(unet, injection)
        else:
            unet, applied, merging = patch_weights(self.dialect, plain, injection)
        attachment = PatcherAttachment(unet, merging)
        inner = inner_call(unet, injection, self._named)
        counted = attachment.counted
        schedule = self.dialect.schedule(unet.model)
        stop_at = injection.stop_at
        acts = partial(acts_down_to, stop_at, schedule.percent_to_sigma(stop_at))
        _wrap_unet_call(unet, acts, counted, applied, inner, self._as_raised)
        return attachment

    def check_patched(self, method: LayerMethod, latent: Tensor) -> None:
        """Checks, once all extensions have patched the UNet, that the method can still act.

        Raises:
            MissingCapabilityError: One replaces attention or regroups what it gets.
        """
        check_patched(self.sd_model.forge_objects.unet, method, latent)

    def _share_attention(self, unet: Any, injection: Injection) -> Applied:
        assert injection.sharing is not None
        sharing = injection.sharing.to(self.dialect.computes_in(unet.model))
        unet.add_extra_model_patcher_during_sampling(
            loaded_nets.patcher(self.dialect, sharing, unet.load_device, unet.offload_device)
        )
        run = SharingRun(sharing, injection.control, attend=self.dialect.attention)
        swap = AttentionSwap(unet.model.diffusion_model, run)

        @contextmanager
        def applied(acts: bool, args: dict[str, Any]) -> Iterator[dict[str, Any]]:
            rows = len(args["input"]) // len(args["cond_or_uncond"])
            with swap.during_call(rows) if acts else nullcontext():
                yield args

        return applied


def _wrap_unet_call(
    unet: Any,
    acts: Callable[[Tensor], bool],
    counted: _Calls,
    applied: Applied,
    inner: UnetCall,
    as_raised: _AsRaised | None,
) -> None:
    """Runs each UNet call of a clone inside `applied(whether the method acts, arguments)`."""

    def call(apply_model: Callable[..., Tensor], args: dict[str, Any]) -> Tensor:
        try:
            with counted.one(), applied(acts(args["timestep"]), args) as changed:
                return inner(apply_model, changed)
        except LayerDiffuseError as error:
            if as_raised is None:
                raise
            raise as_raised(error) from error

    unet.set_model_unet_function_wrapper(call)
