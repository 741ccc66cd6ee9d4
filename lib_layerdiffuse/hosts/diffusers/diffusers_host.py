"""`DiffusersHost`: one loaded checkpoint as the core's host."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import HostError
from ...host import Capabilities, Injection
from ...methods import Arch, LayerMethod
from ...weights.checksums import sha256_of
from ..free_memory import free_bytes
from . import diffusers_vae as vae
from .attaching import UnetAttachment, attach
from .boundary import translated
from .loading import Offload, best_device, load_pipeline
from .quiet import quiet
from .sampling import Sampling, sample

_SMALLER = "Make a smaller image, or choose offloading or another device."


class DiffusersHost:
    """A checkpoint on the diffusers package.

    Attributes:
        pipeline: The loaded parts, as a diffusers pipeline.
        checkpoint: Where they came from.
        loras: The user's LoRA files with their weights.
    """

    capabilities = Capabilities()

    def __init__(
        self,
        pipeline: Any,
        arch: Arch,
        checkpoint: Path = Path(),
        loras: Sequence[tuple[Path, float]] = (),
    ) -> None:
        self.pipeline, self.checkpoint, self.loras = pipeline, checkpoint, tuple(loras)
        self._arch = arch
        self._hash: str | None = None

    @classmethod
    def load(
        cls,
        checkpoint: str | Path,
        *,
        dtype: torch.dtype | None = None,
        device: str | None = None,
        offload: Offload = Offload.NONE,
        loras: Sequence[tuple[Path, float]] = (),
        tiling: bool = False,
        prediction: str | None = None,
    ) -> DiffusersHost:
        """Returns the host of an SD1.5 or SDXL checkpoint.

        Args:
            checkpoint: A `.safetensors` file or a diffusers folder.
            dtype: What it computes in; None for float16 on CUDA and MPS and float32 on the CPU.
            device: As PyTorch names it; None for the best there is.
            offload: What is offloaded while it is not needed.
            loras: LoRA files with their weights.
            tiling: Whether the VAE works in tiles, for large images.
            prediction: What the UNet predicts, "eps" for noise or "v" for velocity; None for what
                the checkpoint says.

        Raises:
            LayerDiffuseError: A file is missing, broken or of another kind.
        """
        path = Path(checkpoint)
        pipeline, arch = load_pipeline(
            path,
            dtype=dtype,
            device=device or best_device(),
            offload=Offload(offload),
            loras=loras,
            tiling=tiling,
            prediction=prediction,
        )
        return cls(pipeline, arch, path, loras)

    @property
    def name(self) -> str:
        """The checkpoint's name, as the WebUI shows it."""
        path = self.checkpoint
        return path.stem if path.suffix == ".safetensors" else path.name

    @property
    def model_hash(self) -> str | None:
        """The WebUI's short hash of a checkpoint in one file, None for a folder; reads it once."""
        if self._hash is None and self.checkpoint.is_file():
            self._hash = sha256_of(self.checkpoint)[:10]
        return self._hash

    @cached_property
    def device(self) -> torch.device:
        """Where it computes; the pipeline looks through all its modules for that."""
        device: torch.device = self.pipeline._execution_device
        return device

    def arch(self) -> Arch | None:
        """Returns the checkpoint's family."""
        return self._arch

    def check(self, method: LayerMethod) -> None:
        """Does nothing: a checkpoint that no method fits is refused when it is loaded."""

    def encode(self, image: Tensor) -> Tensor:
        """Returns the sampler's latent `b 4 h w` of `b 3 H W` in [0, 1]: the posterior's mean."""
        return vae.to_sampler_scale(self.pipeline.vae, self.posterior(image)[0])

    def posterior(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Returns mean and standard deviation of `b 3 H W` in [0, 1]: `b 4 h w`, VAE's scale."""
        with self._at_work(), translated(HostError, "The VAE could not encode", _SMALLER):
            return vae.posterior(self.pipeline.vae, image, self.device)

    def vae_latent(self, latent: Tensor) -> Tensor:
        """Returns the sampler's latent on the VAE's own scale."""
        return vae.to_vae_scale(self.pipeline.vae, latent)

    def sampler_latent(self, latent: Tensor) -> Tensor:
        """Returns the VAE's latent on the sampler's scale."""
        return vae.to_sampler_scale(self.pipeline.vae, latent)

    def pixels(self, latents: Tensor, *, on_retry: vae.OnRetry | None = None) -> Tensor:
        """Returns `b 3 H W` in [0, 1], float32, of `b 4 h w` on the sampler's scale.

        Args:
            latents: They.
            on_retry: Told what was changed where the first attempt failed.

        Raises:
            HostError: The VAE's numbers overflow even in float32.
            CodecError: Memory does not suffice, not even in tiles.
        """
        with self._at_work(), translated(HostError, "The VAE could not decode", _SMALLER):
            return vae.pixels(self.pipeline.vae, latents, self.device, on_retry)

    def sigmas(self) -> Tensor:
        """Returns the model's own sigmas, one for each of its timesteps, rising."""
        left: Tensor = self.pipeline.scheduler.alphas_cumprod
        return ((1 - left) / left).sqrt()

    def memory_errors(self) -> tuple[type[BaseException], ...]:
        """Returns no types beside PyTorch's own."""
        return ()

    def place(self, net: nn.Module, values: int, dtype: torch.dtype | None = None) -> int | None:
        """Loads a network onto the host's device; it computes in float16 where the host does.

        Elsewhere it computes in float32: bfloat16 has too few steps for alpha.

        Args:
            net: A transparent decoder's or encoder's network.
            values: Not used: diffusers has no memory manager.
            dtype: The type to compute in instead.

        Returns:
            How many bytes are free then on a CPU.
        """
        half = self.device.type == "cuda" and self.pipeline.unet.dtype == torch.float16
        net.to(device=self.device, dtype=dtype or (torch.float16 if half else torch.float32))
        return free_bytes(self.device)

    def attach(self, injection: Injection) -> UnetAttachment:
        """Puts the injection on the UNet until the attachment's `detach`; see `attached`.

        Raises:
            ChecksumError: The weight file has keys or shapes that the UNet lacks.
            ArchMismatchError: The UNet lacks attention layers that must be shared.
        """
        train_timesteps = self.pipeline.scheduler.config.num_train_timesteps
        return attach(self.pipeline.unet, injection, train_timesteps, self.device)

    def check_patched(self, method: LayerMethod, latent: Tensor) -> None:
        """Checks nothing: nobody else patches this UNet."""

    @contextmanager
    def attached(self, injection: Injection) -> Iterator[UnetAttachment]:
        """Puts the injection on the UNet and takes it off again, whatever happens meanwhile."""
        attachment = self.attach(injection)
        try:
            yield attachment
        finally:
            attachment.detach()

    def sample(self, sampling: Sampling, injection: Injection | None = None) -> Tensor:
        """Returns the latents `b 4 h w`, sampler's scale, float32, on the CPU.

        Args:
            sampling: What to make.
            injection: What the UNet does for this run; None for the plain one.

        Raises:
            LayerDiffuseError: A name or prompt is not understood, or the weights do not fit.
            SamplingStopped: The user stopped it.
        """
        with self._at_work():
            if injection is None:
                return sample(self.pipeline, self._arch, sampling)
            with self.attached(injection):
                return sample(self.pipeline, self._arch, sampling)

    @contextmanager
    def _at_work(self) -> Iterator[None]:
        """Keeps the libraries quiet; offloads afterwards, if offloading was asked for."""
        with quiet():
            try:
                yield
            finally:
                self.pipeline.maybe_free_model_hooks()
