"""`ComfyHost`: a MODEL and a VAE of ComfyUI.

The given MODEL is never edited: everything rides on a clone, weight patches as ordinary ones of the
host's patcher, the rest in wrappers around the sampler and around each UNet call.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ...callbacks import OnShare
from ...errors import MissingCapabilityError
from ...host import Capabilities, Injection
from ...methods import Arch, LayerMethod
from ...weights.patches import CONV_IN, lacking_layers
from ..patchers import loaded_nets
from ..patchers.attention_patches import check_patched
from ..patchers.patched_weights import check_shapes
from ..patchers.patcher_vae import posterior
from .comfy_parts import Comfy
from .method_runs import MethodRuns, give_back, narrowed, shared
from .unet_calls import wrapper

KEY = "layerdiffuse"
"""Under which the method stands among a patcher's wrappers and additional models."""

_FULL = "Choose a smaller size, or close other programs that use the GPU."
_OVERFLOWS = "Start ComfyUI with --fp32-vae, or choose another VAE."


class ComfyAttachment:
    """An injection on one clone of a MODEL; it stays in force with that clone.

    Args:
        comfy: The dialect.
        unet: The clone.
        runs: Its sampling runs.
    """

    def __init__(self, comfy: Comfy, unet: Any, runs: MethodRuns) -> None:
        self.unet = unet
        self._comfy, self._runs = comfy, runs

    @property
    def calls(self) -> int:
        """UNet calls that went through it."""
        return self._runs.calls

    def detach(self) -> None:
        """Takes off what the host would leave on the UNet when it loads another patcher."""
        self._runs.end()
        give_back(self._comfy, self.unet)


class ComfyHost:
    """A MODEL and a VAE, as nodes are given them.

    Args:
        comfy: The dialect.
        model: The MODEL's patcher; None where only networks are placed. Without it latents stay on
            the VAE's scale, which is that of ComfyUI's LATENT.
        vae: The VAE; None where no image is encoded.
    """

    capabilities = Capabilities()

    def __init__(self, comfy: Comfy, model: Any = None, vae: Any = None) -> None:
        self.dialect, self.model, self.vae = comfy, model, vae

    def arch(self) -> Arch | None:
        """Returns the checkpoint's family; None for one that no method fits."""
        return self.dialect.families.get(type(getattr(self.model.model, "model_config", None)))

    def check(self, method: LayerMethod) -> None:
        """Checks that the model is of a family that methods fit, with four latent channels.

        Raises:
            MissingCapabilityError: It is not, or has a method already.
        """
        if self.arch() is None:
            kind = type(getattr(self.model.model, "model_config", self.model.model)).__name__
            raise MissingCapabilityError(
                f"The model is of another family, {kind}, whose layers no method's weights fit.",
                "Load an ordinary SD1.5 or SDXL checkpoint.",
                field="method",
            )
        conv_in = self.model.model.get_submodule(CONV_IN.removesuffix(".weight"))
        if conv_in.in_channels != 4:
            raise MissingCapabilityError(
                "The checkpoint is one for inpainting or editing: its UNet takes "
                f"{conv_in.in_channels} channels, not 4.",
                "Load an ordinary checkpoint instead of one for inpainting or editing.",
                field="method",
            )
        if self.model.get_wrappers(self.dialect.around_unet, KEY):
            raise MissingCapabilityError(
                "The MODEL has a layer method already, and a second one would act on top of it.",
                "Connect the MODEL of the checkpoint loader, and use one method for each sampler.",
            )

    def attach(self, injection: Injection) -> ComfyAttachment:
        """Returns the injection on a clone of the MODEL, for any sampler to use.

        Raises:
            ChecksumError: The weight file has keys or shapes that the UNet lacks.
            ArchMismatchError: The UNet lacks attention layers that the method changes.
        """
        comfy, unet = self.dialect, self.model.clone()
        merged, beside = narrowed(injection.patches or {})
        if injection.sharing is not None:
            self._add_sharing(unet, injection)
        accepted = comfy.add(unet, merged, injection.strength, injection.identity)
        unused = merged.keys() - accepted
        if unused:
            raise lacking_layers(unused)
        check_shapes(self.model.model, injection.patches or {})
        written = [unet.patches[key][-1][1] for key in merged]
        runs = MethodRuns(comfy, injection, merged, written, beside)
        unet.add_wrapper_with_key(comfy.around_sampler, KEY, runs.around_sampler)
        unet.add_wrapper_with_key(comfy.around_unet, KEY, wrapper(runs.around_unet))
        return ComfyAttachment(comfy, unet, runs)

    def _add_sharing(self, unet: Any, injection: Injection) -> None:
        """Puts the sharing module under the memory manager, for the runs of a clone."""
        assert injection.sharing is not None
        shared(self.dialect, unet.model.diffusion_model, injection)
        net = injection.sharing.to(self.dialect.computes_in(unet.model))
        loaded = loaded_nets.patcher(self.dialect, net, unet.load_device, unet.offload_device)
        loaded.cached_patcher_init = (_refuse_another_device, ())  # Or it is told in other words.
        unet.set_additional_models(KEY, [loaded])

    def check_patched(self, method: LayerMethod, latent: Tensor) -> None:
        """Checks that no node has put on the MODEL what the method cannot work with.

        Each sampling run does so by itself, with what later nodes have put on.

        Raises:
            MissingCapabilityError: One replaces attention or regroups what it gets.
        """
        check_patched(self.model, method, latent)

    def sigmas(self) -> Tensor:
        """Returns the model's own sigmas, one for each of its timesteps, rising."""
        return self.model.get_model_object("model_sampling").sigmas

    def encode(self, image: Tensor) -> Tensor:
        """Returns the sampler's latent `b 4 h w` of `b 3 H W` in [0, 1]."""
        self._check_vae()
        return self.sampler_latent(self.vae.encode(image.movedim(1, -1)).float())

    def posterior(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Returns mean and standard deviation of `b 3 H W` in [0, 1]: `b 4 h w`, VAE's scale.

        Raises:
            MissingCapabilityError: The VAE has no posterior.
            HostError: Memory does not suffice even for tiles, or the result is not finite.
        """
        self._check_vae()
        return posterior(self.dialect, self.vae, image, full=_FULL, overflows=_OVERFLOWS)

    def _check_vae(self) -> None:
        net = self.vae.first_stage_model
        if self.vae.latent_channels != 4 or not hasattr(net, "encoder"):
            raise MissingCapabilityError(
                f"The VAE, {type(net).__name__}, is not one of SD1.5's or SDXL's kind.",
                "Connect the VAE of the checkpoint, or an ordinary one of its family; TAESD and "
                "others have no place for transparency.",
            )

    def vae_latent(self, latent: Tensor) -> Tensor:
        """Returns the sampler's latent on the VAE's own scale, ComfyUI's LATENT."""
        return latent if self.model is None else self._scaling().process_out(latent)

    def sampler_latent(self, latent: Tensor) -> Tensor:
        """Returns the VAE's latent on the sampler's scale."""
        return latent if self.model is None else self._scaling().process_in(latent)

    def _scaling(self) -> Any:
        return self.model.get_model_object("latent_format")

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
        # Whole: of layers that are not its own ComfyUI leaves on the CPU what does not fit.
        return loaded_nets.place(self.dialect, net, values, dtype, force_full_load=True)

    def progress(self, total: int) -> OnShare:
        """Returns what shows shares of this many on the node that runs.

        It ends the node, by an exception of the host's, where the user has stopped the prompt.
        """
        bar = self.dialect.bar(total)

        def shown(done: int, of: int) -> bool:
            self.dialect.memory.throw_exception_if_processing_interrupted()
            bar.update_absolute(done, of)
            return True

        return shown


def _refuse_another_device(*_: Any, **__: Any) -> Any:
    raise MissingCapabilityError(
        "The SD1.5 methods do not work on several GPUs.",
        "Bypass the MultiGPU node, or choose an SDXL method.",
    )
