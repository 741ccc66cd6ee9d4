"""`A1111Host`: the checkpoint that AUTOMATIC1111's WebUI has loaded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from modules import devices, sd_unet
from torch import Tensor, nn

from ...errors import LayerDiffuseError, MissingCapabilityError
from ...host import Capabilities, Injection
from ...methods import Arch, LayerMethod
from ...weights.patches import CONV_IN
from ..free_memory import free_bytes
from . import memory
from .a1111_vae import posterior
from .attaching import A1111Attachment, attach


class A1111Host:
    """The checkpoint that the WebUI has loaded.

    Args:
        sd_model: The WebUI's `p.sd_model`.
        as_raised: Returns the exception to raise for an error of ours in a UNet call; None to
            raise the error itself.
        _named: Not used: what other extensions have put into this host does not say whose it is.
    """

    capabilities = Capabilities(composes_sets=False)

    def __init__(
        self,
        sd_model: Any,
        as_raised: Callable[[LayerDiffuseError], Exception] | None = None,
        _named: Callable[[str], str] | None = None,
    ) -> None:
        self.sd_model = sd_model
        self._as_raised = as_raised or (lambda error: error)

    def arch(self) -> Arch | None:
        """Returns the checkpoint's family; None for one that no method fits, such as SSD-1B."""
        if getattr(self.sd_model, "is_sd1", False):
            return Arch.SD15
        whole = not getattr(self.sd_model, "is_ssd", False)
        return Arch.SDXL if whole and getattr(self.sd_model, "is_sdxl", False) else None

    def check(self, method: LayerMethod) -> None:
        """Checks that the UNet takes four latent channels and is the one that will run.

        Raises:
            MissingCapabilityError: It is an inpainting or editing checkpoint, or the WebUI runs
                another UNet in its place.
        """
        conv_in: Any = self.sd_model.model.get_submodule(CONV_IN.removesuffix(".weight"))
        if conv_in.in_channels != 4:
            raise MissingCapabilityError(
                "The checkpoint is one for inpainting or editing: its UNet takes "
                f"{conv_in.in_channels} channels, not 4.",
                "Choose an ordinary checkpoint instead of one for inpainting or editing.",
                field="method",
            )
        if sd_unet.current_unet is not None:
            raise MissingCapabilityError(
                "Another UNet runs in the place of the checkpoint's, and no method can act on it.",
                "Set SD Unet to None in the settings, and start again.",
                field="method",
            )

    def check_patched(self, method: LayerMethod, latent: Tensor) -> None:
        """Does nothing: what others do to attention is seen, and refused, in each UNet call."""

    def encode(self, image: Tensor) -> Tensor:
        """Returns the sampler's latent `b 4 h w` of `b 3 H W` in [0, 1]: the posterior's mean."""
        return self.sampler_latent(self.posterior(image)[0])

    def posterior(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Returns mean and standard deviation of `b 3 H W` in [0, 1]: `b 4 h w`, VAE's scale.

        Raises:
            HostError: Memory does not suffice, or the result is not finite.
        """
        return posterior(self.sd_model, image)

    def vae_latent(self, latent: Tensor) -> Tensor:
        """Returns the sampler's latent on the VAE's own scale."""
        return latent / self._scale

    def sampler_latent(self, latent: Tensor) -> Tensor:
        """Returns the VAE's latent on the sampler's scale."""
        return latent * self._scale

    @property
    def _scale(self) -> float:
        return float(self.sd_model.scale_factor)  # A tensor in some checkpoints.

    def sigmas(self) -> Tensor:
        """Returns the model's own sigmas, one for each of its timesteps, rising."""
        left: Tensor = self.sd_model.alphas_cumprod
        return ((1 - left) / left).sqrt()

    def memory_errors(self) -> tuple[type[BaseException], ...]:
        """Returns no types beside PyTorch's own."""
        return ()

    def place(self, net: nn.Module, values: int, dtype: torch.dtype | None = None) -> int | None:
        """Loads a network onto the host's device.

        Args:
            net: A transparent decoder's or encoder's network.
            values: Not used: the host has no memory manager.
            dtype: The type to compute in; None for the host's choice.

        Returns:
            How many bytes are free then on a CPU.
        """
        memory.place(self.sd_model, net, dtype)
        return free_bytes(devices.device)

    def attach(self, injection: Injection) -> A1111Attachment:
        """Puts the injection on the UNet until the attachment's `detach`.

        Raises:
            ChecksumError: The weight file has keys or shapes that the UNet lacks.
            ArchMismatchError: The UNet lacks attention layers that must be shared.
            MissingCapabilityError: Something else changes the attention that must be shared.
        """
        return attach(self.sd_model, injection, self._as_raised)
