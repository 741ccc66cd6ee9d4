"""`Tools`: what the nodes of this ComfyUI share: weights that are loaded once, and the host."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import folder_paths
import torch
from torch import Tensor

from ..callbacks import OnShare
from ..codec.views import ADAPTIVE, most_views
from ..errors import BatchSizeError
from ..hosts.comfy import ComfyHost
from ..hosts.comfy.comfy_dialect import dialect
from ..hosts.comfy.comfy_parts import Comfy
from ..hosts.comfy.layer_prompts import Conditioning, put_prompts
from ..imaging.images import ImageU8
from ..methods import Arch, LayerMethod
from ..pipeline import Session, check_arch, decode, inject
from ..settings.layer_settings import LayerSettings
from ..weights.store import WeightStore

FOLDER = "layer_model"
"""What ComfyUI calls the folders of the weight files; its own is `models/layer_model`."""


class Tools:
    """What the nodes share; there is one for a process, made when a node first needs it."""

    def __init__(self) -> None:
        self.comfy: Comfy = dialect()
        own, others = _folders()
        store = WeightStore(own, extra_folders=others, on_progress=self._downloading)
        self.session = Session(store)
        self._bar: tuple[str, Any] | None = None

    def host(self, model: Any = None, vae: Any = None) -> ComfyHost:
        """Returns the host of a MODEL and a VAE; either may be missing."""
        return ComfyHost(self.comfy, model, vae)

    def apply(
        self,
        model: Any,
        method: LayerMethod,
        weight: float,
        stop_at: float,
        *,
        control: Tensor | None = None,
        concat: Tensor | None = None,
        prompts: Mapping[int, Conditioning] | None = None,
    ) -> Any:
        """Returns a MODEL that makes a method's layers.

        Args:
            model: The checkpoint's.
            method: The method.
            weight: Its strength.
            stop_at: The part of the schedule that it acts in.
            control: `1 3 H W` in [-1, 1], for methods that start from an image so.
            concat: `1 4n h w`, sampler's scale, for the others.
            prompts: Conditionings of single layers, by frame.

        Raises:
            LayerDiffuseError: Model, method and weight file do not fit together.
        """
        host = self._checked(model, method)
        settings = LayerSettings(enabled=True, method=method, strength=weight, stop_at=stop_at)
        injection = self.session.weights(settings)
        made = host.attach(replace(injection, control=control, concat=concat)).unet
        return self._with_prompts(made, method, prompts)

    def apply_images(
        self,
        model: Any,
        vae: Any,
        settings: LayerSettings,
        size: tuple[int, int],
        prompts: Mapping[int, Conditioning] | None = None,
    ) -> Any:
        """Returns a MODEL that makes a method's layers of images as they are.

        Args:
            model: The checkpoint's.
            vae: The checkpoint's, for methods that encode images; None for others.
            settings: The method and its images.
            size: The width and height that images are fitted to.
            prompts: As in `apply`.

        Raises:
            LayerDiffuseError: Model, method and weight file do not fit together.
        """
        host = self._checked(model, settings.method, vae)
        made = host.attach(inject(settings, self.session, host, *size)).unet
        return self._with_prompts(made, settings.method, prompts)

    def _checked(self, model: Any, method: LayerMethod, vae: Any = None) -> ComfyHost:
        host = self.host(model, vae)
        host.check(method)
        check_arch(method, host.arch())
        return host

    def _with_prompts(
        self, model: Any, method: LayerMethod, prompts: Mapping[int, Conditioning] | None
    ) -> Any:
        if prompts:
            put_prompts(self.comfy, model, method.frames, prompts)
        return model

    @torch.inference_mode()
    def decode(self, arch: Arch, pixels: Tensor, latent: Tensor, views: int) -> list[ImageU8]:
        """Returns each image's straight RGBA, `H W 4`.

        Args:
            arch: The family of the decoder.
            pixels: `b 3 H W` in [0, 1], as the VAE decoded them.
            latent: `b 4 H/8 W/8`, the VAE's scale.
            views: How many views the decoder takes; 0 for adaptive.

        Raises:
            BatchSizeError: There are not as many latents as images.
            CodecError: The decoder has no result.
        """
        if len(pixels) != len(latent):
            raise BatchSizeError(
                f"There are {len(pixels)} images and {len(latent)} latents.",
                "Connect the LATENT that the images were decoded from.",
            )
        host, decoder = self.host(), self.session.decoder(arch)
        taken = views or ADAPTIVE
        report = host.progress(len(pixels) * most_views(taken))
        made = []
        for number, one in enumerate(zip(pixels, latent, strict=True)):
            shown = _share(report, number, len(pixels))
            made.append(decode(decoder, host, *one, views=taken, on_view=shown))
        return made

    def _downloading(self, name: str, done: int, size: int | None) -> None:
        """Shows a download on the node, in MiB; stops it where the user has stopped the prompt."""
        self.comfy.memory.throw_exception_if_processing_interrupted()
        if self._bar is None or self._bar[0] != name:
            self._bar = name, self.comfy.bar(_mib(size or 0) or 1)
        self._bar[1].update_absolute(_mib(done))


def add_folder() -> str:
    """Tells ComfyUI where weight files are downloaded to, and returns it."""
    own = os.path.join(folder_paths.models_dir, FOLDER)
    folder_paths.add_model_folder_path(FOLDER, own)
    return own


def _folders() -> tuple[Path, list[Path]]:
    """Returns where weight files are downloaded to, and where else they may lie."""
    own = add_folder()
    found = [Path(path) for path in folder_paths.get_folder_paths(FOLDER)]
    return Path(own), [path for path in found if path != Path(own)]


def _share(report: OnShare, number: int, images: int) -> OnShare:
    """Returns what reports an image's views as a share of all images'."""
    return lambda done, of: report(number * of + done, images * of)


def _mib(size: int) -> int:
    return size // 2**20
