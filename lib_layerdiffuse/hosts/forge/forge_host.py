"""`ForgeHost`: the checkpoint that Forge has loaded.

The caller's UNet is never edited: everything rides on a clone's options. Weight patches go through
the host's own LoRA loader. Attention sharing replaces the 32 attention modules' `forward` for the
duration of each UNet call only, so the parameters stay visible to the host and nothing is left
behind by an exception.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from backend.attention import attention_function
from backend.utils import get_attr
from torch import Tensor, nn

from ...errors import ChecksumError, HostError, LayerDiffuseError, MissingCapabilityError
from ...host import Injection
from ...methods import Arch, LayerMethod
from ...nets.attention_sharing import SharingRun
from ...weights.patches import CONV_IN, LoRA, WeightPatch
from ..attention_swap import AttentionSwap
from . import memory
from .attention_patches import check_patched
from .forge_vae import posterior
from .others import Named, UnetCall, check_others, inner_call

_SLOTS_OF_A_PATCH = 16  # The host reads optional parts of a LoRA by position.
_AsRaised = Callable[[LayerDiffuseError], Exception]
_Applied = Callable[[bool, dict[str, Any]], Any]


class ForgeAttachment:
    """An injection on one UNet clone; counts the UNet calls that went through it.

    Args:
        plain: The patcher that it was put on a clone of.
    """

    def __init__(self, plain: Any) -> None:
        self.calls = 0
        self._plain = plain

    def detach(self) -> None:
        """Puts the UNet's weights back as they were.

        The host does so by itself before it uses another patcher; but it believes that weights are
        as they were where merging them has failed halfway.
        """
        loader, patches = self._plain.lora_loader, self._plain.lora_patches
        loader.refresh(patches, offload_device=self._plain.offload_device, force_refresh=True)


class ForgeHost:
    """The checkpoint that Forge has loaded.

    Args:
        sd_model: The WebUI's `p.sd_model`.
        as_raised: Returns the exception to raise for an error of ours in a UNet call, since the
            host swallows some kinds; None to raise the error itself.
        named: Returns what a user calls the extension that a file of code belongs to.
    """

    def __init__(
        self, sd_model: Any, as_raised: _AsRaised | None = None, named: Named = str
    ) -> None:
        self.sd_model, self._as_raised, self._named = sd_model, as_raised, named

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
        conv_in = get_attr(self.sd_model.forge_objects.unet.model, CONV_IN.removesuffix(".weight"))
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
        return vae.first_stage_model.process_in(vae.encode(image.movedim(1, -1)))

    def posterior(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Returns mean and standard deviation of `b 3 H W` in [0, 1]: `b 4 h w`, VAE's scale.

        Raises:
            HostError: Memory does not suffice even for tiles, or the result is not finite.
        """
        return posterior(self.sd_model.forge_objects.vae, image)

    def vae_latent(self, latent: Tensor) -> Tensor:
        """Returns the sampler's latent on the VAE's own scale."""
        return self.sd_model.forge_objects.vae.first_stage_model.process_out(latent)

    def sampler_latent(self, latent: Tensor) -> Tensor:
        """Returns the VAE's latent on the sampler's scale."""
        return self.sd_model.forge_objects.vae.first_stage_model.process_in(latent)

    def sigmas(self) -> Tensor:
        """Returns the model's own sigmas, one for each of its timesteps, rising."""
        return self.sd_model.forge_objects.unet.model.predictor.sigmas

    def memory_errors(self) -> tuple[type[BaseException], ...]:
        """Returns the host's own types of errors that say that memory is full."""
        return (memory.OOM_EXCEPTION,)

    def place(self, net: nn.Module, pixels: int, dtype: torch.dtype | None = None) -> None:
        """Loads a network onto the device through the host's memory manager.

        Args:
            net: A transparent decoder's or encoder's network.
            pixels: Pixels of the image to come, for which memory is made free.
            dtype: The type to compute in; None for the host's choice.
        """
        memory.place(net, pixels, dtype)

    def attach(self, injection: Injection) -> ForgeAttachment:
        """Puts the injection on a clone of the UNet that the coming sampling run uses.

        Raises:
            ChecksumError: The weight file has keys that the UNet lacks.
            MissingCapabilityError: Others have put on it what the method cannot work with.
        """
        memory.unload_sharing_but(injection.sharing)
        plain = self.sd_model.forge_objects.unet
        check_others(plain, injection, self._named)
        unet = plain.clone()
        attachment = ForgeAttachment(plain)
        patched = (
            _share_attention(unet, injection)
            if injection.sharing is not None
            else _patch_weights(unet, plain, injection)
        )
        inner = inner_call(unet, injection, self._named)
        _wrap_unet_call(unet, injection.stop_at, attachment, patched, inner, self._as_raised)
        self.sd_model.forge_objects.unet = unet
        return attachment

    def check_patched(self, method: LayerMethod, latent: Tensor) -> None:
        """Checks, once all extensions have patched the UNet, that the method can still act.

        Raises:
            MissingCapabilityError: One replaces attention or regroups what it gets.
        """
        check_patched(self.sd_model.forge_objects.unet, method, latent)


def _wrap_unet_call(
    unet: Any,
    stop_at: float,
    attachment: ForgeAttachment,
    applied: _Applied,
    inner: UnetCall,
    as_raised: _AsRaised | None,
) -> None:
    """Runs each UNet call of a clone inside `applied(whether the method acts, arguments)`."""
    sigma_end = unet.model.predictor.percent_to_sigma(stop_at)

    def call(apply_model: Callable[..., Tensor], args: dict[str, Any]) -> Tensor:
        attachment.calls += 1
        acts = stop_at >= 1 or bool(args["timestep"].max() >= sigma_end)
        try:
            with applied(acts, args) as changed:
                return inner(apply_model, changed)
        except LayerDiffuseError as error:
            if as_raised is None:
                raise
            raise as_raised(error) from error

    unet.set_model_unet_function_wrapper(call)


def _patch_weights(unet: Any, plain: Any, injection: Injection) -> _Applied:
    patches = {key: _encode(patch) for key, patch in (injection.patches or {}).items()}
    accepted = unet.add_patches(
        filename=injection.identity, patches=patches, strength_patch=injection.strength
    )
    unused = sorted(patches.keys() - accepted)
    if unused:
        raise ChecksumError(
            f"The method's file does not fit the checkpoint, whose UNet lacks {len(unused)} of its "
            f"layers, such as {unused[0]}.",
            "Choose an ordinary checkpoint of the method's family, or download the file again.",
        )

    # Not the clone itself: it would be in a cycle with what rides on it, and live on.
    loader, offload = unet.lora_loader, unet.offload_device
    patched, unpatched = unet.lora_patches, plain.lora_patches

    @contextmanager
    def applied(acts: bool, args: dict[str, Any]) -> Iterator[dict[str, Any]]:
        if injection.stop_at < 1:  # No work unless it has changed since the last call.
            loader.refresh(patched if acts else unpatched, offload_device=offload)
        if acts and injection.concat is not None:
            x = args["input"]
            _check_whole(x, injection.concat)
            concat = injection.concat.to(x).expand(x.shape[0], -1, -1, -1)
            args = args | {"c": args["c"] | {"c_concat": concat}}
        yield args

    return applied


def _check_whole(x: Tensor, concat: Tensor) -> None:
    if x.shape[2:] != concat.shape[2:]:
        (height, width), (wanted_height, wanted_width) = x.shape[2:], concat.shape[2:]
        raise HostError(
            f"An extension samples parts of the image: the UNet was called for {width}×{height} "
            f"latent pixels instead of all {wanted_width}×{wanted_height}.",
            "Turn off extensions that sample tiles or regions one by one.",
        )


def _encode(patch: WeightPatch) -> tuple[str, list[Tensor | None]]:
    if isinstance(patch, LoRA):
        parts: list[Tensor | None] = [patch.up, patch.down]
        return "lora", parts + [None] * (_SLOTS_OF_A_PATCH - len(parts))
    return "diff", [patch.delta]


def _share_attention(unet: Any, injection: Injection) -> _Applied:
    assert injection.sharing is not None
    sharing = injection.sharing.to(unet.model.computation_dtype)
    unet.add_extra_model_patcher_during_sampling(
        memory.patcher(sharing, unet.load_device, unet.offload_device)
    )
    run = SharingRun(sharing, injection.control, attend=attention_function)
    swap = AttentionSwap(unet.model.diffusion_model, run)

    @contextmanager
    def applied(acts: bool, args: dict[str, Any]) -> Iterator[dict[str, Any]]:
        rows = len(args["input"]) // len(args["cond_or_uncond"])
        with swap.during_call(rows) if acts else nullcontext():
            yield args

    return applied
