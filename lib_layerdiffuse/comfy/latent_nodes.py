"""The nodes that make what a sampler starts from."""

from __future__ import annotations

from typing import Any

import torch
from comfy_api.latest import io
from torch import Tensor

from ..codec.transparent import OFFSET_STRENGTH
from ..imaging.images import as_rgba
from ..methods import Arch, find_method
from ..nets.differential import timestep
from ..pipeline import encode
from .layer_node import LayerNode
from .node_images import SIDE, arrays, empty_latent
from .node_inputs import family_input, mask_input, method_input


class LayerDiffuseEmptyLatent(LayerNode):
    """As many empty latents as sets have layers."""

    @classmethod
    def define_schema(cls) -> Any:
        bounds = {"default": 1024, "min": 64, "max": 16384, "step": SIDE}
        return cls.schema(
            "LayerDiffuseEmptyLatent",
            "Empty layers latent",
            "Makes the latent of whole sets for a method.",
            [
                io.Int.Input("width", **bounds, tooltip="Of each layer, in pixels."),
                io.Int.Input("height", **bounds, tooltip="Of each layer, in pixels."),
                io.Int.Input("sets", default=1, min=1, max=4096, tooltip="How many sets."),
                method_input(),
            ],
            [io.Latent.Output()],
        )

    @classmethod
    def execute(cls, width: int, height: int, sets: int, method: str) -> Any:
        rows = sets * find_method(method).frames
        return io.NodeOutput(empty_latent(rows, width, height))


def _strength_input() -> Any:
    about = "Factor of what the encoder adds; 300 is what the decoder expects."
    bounds = {"default": OFFSET_STRENGTH, "min": 0.0, "max": 1000.0, "step": 1.0}
    return io.Float.Input("strength", **bounds, tooltip=about)


class LayerDiffuseEncode(LayerNode):
    """A transparent image as a latent."""

    @classmethod
    def define_schema(cls) -> Any:
        return cls.schema(
            "LayerDiffuseEncode",
            "Encode RGBA",
            "Makes a latent that keeps an image's transparency, for img2img with a transparent "
            "foreground.",
            [
                io.Image.Input("image", tooltip="RGBA, or RGB with a mask."),
                io.Vae.Input("vae", tooltip="The checkpoint's."),
                family_input(),
                _strength_input(),
                mask_input(),
            ],
            [io.Latent.Output()],
        )

    @classmethod
    def execute(
        cls, image: Tensor, vae: Any, family: str, strength: float, mask: Tensor | None = None
    ) -> Any:
        tools = cls.tools()
        host, encoder = tools.host(vae=vae), tools.session.encoder(Arch(family))
        report = host.progress(len(image))
        made = []
        with torch.inference_mode():
            for number, one in enumerate(arrays(image, mask), start=1):
                made.append(encode(encoder, host, as_rgba(one), strength))
                report(number, len(image))
        return io.NodeOutput({"samples": torch.cat(made)})


class LayerDiffuseDifferential(LayerNode):
    """A mask that says how much each part may change."""

    @classmethod
    def define_schema(cls) -> Any:
        return cls.schema(
            "LayerDiffuseDifferential",
            "Differential Diffusion (exact)",
            "Makes the latent's noise mask a change map: white may change fully, grey in the last "
            "part of the steps alone, black never. Set Latent Noise Mask puts it there.",
            [io.Model.Input("model")],
            [io.Model.Output()],
        )

    @classmethod
    def execute(cls, model: Any) -> Any:
        made = model.clone()
        made.set_model_denoise_mask_function(_free)
        return io.NodeOutput(made)


def _free(sigma: Tensor, denoise_mask: Tensor, extra_options: Any) -> Tensor:
    """Returns which pixels a step may change: those whose share of the run has come.

    Args:
        sigma: The step's, of each row.
        denoise_mask: The change map, `b c h w` in [0, 1].
        extra_options: The sampler's model and sigmas.
    """
    sigmas = extra_options["model"].inner_model.model_sampling.sigmas
    start = timestep(float(extra_options["sigmas"][0]), sigmas)
    now = timestep(float(sigma[0]), sigmas)
    left = now / start if now < start else 1.0
    return ((denoise_mask > 0) & (denoise_mask >= left)).to(denoise_mask)
