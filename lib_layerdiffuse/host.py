"""The port: what the core hands to a host, and what it needs of one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from .methods import Arch, LayerMethod
from .nets.attention_sharing import AttentionSharing
from .weights.patches import WeightPatch


@dataclass(frozen=True, eq=False)
class Injection:
    """What a host must do to its UNet for one run. Exactly one of patches and sharing is set.

    Attributes:
        method: The method that acts.
        stop_at: It acts while sigma ≥ the host's sigma for this part of the schedule; below, the
            plain UNet runs, without concat channels.
        identity: Names the weights' content, for hosts that cache by name.
        strength: Scale of the patches; the sharing module carries its own.
        patches: Weight patches by `diffusion_model.…` key.
        concat: Latents beside x, `1 4n h w`, sampler's scale; None for methods without.
        sharing: The attention-sharing module.
        control: Image for its control encoder, `1 3 H W` in [-1, 1]; None for methods without.
    """

    method: LayerMethod
    stop_at: float
    identity: str
    strength: float = 1.0
    patches: Mapping[str, WeightPatch] | None = None
    concat: Tensor | None = None
    sharing: AttentionSharing | None = None
    control: Tensor | None = None


@dataclass(frozen=True)
class Capabilities:
    """What some hosts can and others cannot, of what a method is combined with.

    Attributes:
        stops_midway: A method can stop acting in the midst of a run.
        composes_sets: Prompts joined by `AND` reach the UNet in rows whose frames stand beside
            each other.
    """

    stops_midway: bool = True
    composes_sets: bool = True


class Attachment(Protocol):
    """An injection that is in force for one sampling run."""

    @property
    def calls(self) -> int:
        """UNet calls that went through it; 0 afterwards means that something replaced it."""
        ...

    unet: Any
    """What the run has to use in the place of the host's; the host's own where that is changed."""

    def detach(self) -> None:
        """Ends it, even where an exception came between; a second time does nothing.

        The host's next run of anything else has the weights that were there before.
        """
        ...


class Host(Protocol):
    """One loaded checkpoint in a host."""

    capabilities: Capabilities

    def arch(self) -> Arch | None:
        """Returns the checkpoint's family; None for one that no method fits."""
        ...

    def check(self, method: LayerMethod) -> None:
        """Checks, before sampling, that the method can be attached.

        Raises:
            MissingCapabilityError: The checkpoint or the host lacks something.
        """
        ...

    def attach(self, injection: Injection) -> Attachment:
        """Returns the injection on the UNet, for the caller to put in the host and to detach."""
        ...

    def sigmas(self) -> Tensor:
        """Returns the model's own sigmas, one for each of its timesteps, rising."""
        ...

    def check_patched(self, method: LayerMethod, latent: Tensor) -> None:
        """Checks, once all others have patched the UNet for a run, that the method can still act.

        Args:
            method: The method, attached.
            latent: What the run starts from, `b 4 h w`.

        Raises:
            MissingCapabilityError: It cannot; the message names who is in the way.
        """
        ...

    def encode(self, image: Tensor) -> Tensor:
        """Returns the sampler's latent `b 4 h w` of `b 3 H W` in [0, 1]."""
        ...

    def posterior(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Returns mean and standard deviation of `b 3 H W` in [0, 1]: `b 4 h w`, VAE's scale."""
        ...

    def vae_latent(self, latent: Tensor) -> Tensor:
        """Returns the sampler's latent on the VAE's own scale."""
        ...

    def sampler_latent(self, latent: Tensor) -> Tensor:
        """Returns the VAE's latent on the sampler's scale."""
        ...

    def memory_errors(self) -> tuple[type[BaseException], ...]:
        """Returns the host's own types of errors that say that memory is full."""
        ...

    def place(self, net: nn.Module, values: int, dtype: torch.dtype | None = None) -> int | None:
        """Loads a network onto the device, and casts it to the type, that the host computes in.

        Args:
            net: A transparent decoder's or encoder's network.
            values: How many values it will hold beside its weights, for which memory is made free.
            dtype: The type to compute in instead.

        Returns:
            How many bytes are free then; None where only PyTorch can say it.
        """
        ...
