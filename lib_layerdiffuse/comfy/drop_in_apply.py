"""The five nodes that put a method on a MODEL as older workflows have them.

Ids, names and order of their inputs are those of `ComfyUI-layerdiffuse`, so that its workflows
open and run. What is new is optional and comes last.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from comfy_api.latest import io
from torch import Tensor

from ..errors import BatchSizeError
from ..imaging.images import as_rgba, flatten
from ..methods import LayerMethod, find_method
from ..pipeline import image_tensor
from .layer_node import LayerNode
from .node_images import latent_of, only
from .node_inputs import stop_at_input, weight_input

_ATTENTION, _CONV = "Attention Injection", "Conv Injection"
_FOREGROUND, _BACKGROUND = "SDXL, Foreground", "SDXL, Background"
_ALONE = {
    f"SDXL, {_ATTENTION}": "fg_attn_sdxl",
    f"SDXL, {_CONV}": "fg_conv_sdxl",
    f"SD15, {_ATTENTION}, attn_sharing": "fg_attn_sd15",
}
_JOINT = {"SD15, attn_sharing, Batch size (3N)": "joint_sd15"}
_BLENDED = {_FOREGROUND: "fg_to_blended_sdxl", _BACKGROUND: "bg_to_blended_sdxl"}
_GIVEN_IMAGE = {
    "SD15, Foreground, attn_sharing, Batch size (2N)": "fg_to_bg_sd15",
    "SD15, Background, attn_sharing, Batch size (2N)": "bg_to_fg_sd15",
}
_OTHER_LAYER = {_FOREGROUND: "fg_blended_to_bg_sdxl", _BACKGROUND: "bg_blended_to_fg_sdxl"}


def _config(methods: Mapping[str, str]) -> Any:
    return io.Combo.Input(
        "config", options=list(methods), tooltip="Which layers are made, and how the model is."
    )


def _own(name: str, layer: str) -> Any:
    about = f"The {layer}'s own prompt; without one it follows the sampler's."
    return io.Conditioning.Input(name, optional=True, tooltip=about)


def _prompts(*given: Any) -> dict[int, Any]:
    """Returns the conditionings that are given, by frame."""
    return {frame: one for frame, one in enumerate(given) if one is not None}


class LayeredDiffusionApply(LayerNode):
    """A transparent image alone."""

    @classmethod
    def define_schema(cls) -> Any:
        return cls.schema(
            "LayeredDiffusionApply",
            "Layer Diffuse Apply",
            "Makes a MODEL that draws transparent images.",
            [
                io.Model.Input("model"),
                _config(_ALONE),
                weight_input(),
                stop_at_input(optional=True),
            ],
            [io.Model.Output()],
        )

    @classmethod
    def execute(cls, model: Any, config: str, weight: float, stop_at: float = 1.0) -> Any:
        method = find_method(_ALONE[config])
        return io.NodeOutput(cls.tools().apply(model, method, weight, stop_at))


class LayeredDiffusionJointApply(LayerNode):
    """Foreground, background and both together, in sets of three."""

    @classmethod
    def define_schema(cls) -> Any:
        return cls.schema(
            "LayeredDiffusionJointApply",
            "Layer Diffuse Joint Apply",
            "Makes a MODEL that draws foreground, background and blended image at once: give the "
            "sampler a batch of 3, 6 or 9 latents.",
            [
                io.Model.Input("model"),
                _config(_JOINT),
                _own("fg_cond", "foreground"),
                _own("bg_cond", "background"),
                _own("blended_cond", "blended image"),
                weight_input(optional=True),
                stop_at_input(optional=True),
            ],
            [io.Model.Output()],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        config: str,
        fg_cond: Any = None,
        bg_cond: Any = None,
        blended_cond: Any = None,
        weight: float = 1.0,
        stop_at: float = 1.0,
    ) -> Any:
        prompts = _prompts(fg_cond, bg_cond, blended_cond)
        method = find_method(_JOINT[config])
        return io.NodeOutput(cls.tools().apply(model, method, weight, stop_at, prompts=prompts))


def _layer_latent() -> Any:
    return io.Latent.Input("latent", tooltip="Of the given layer, in the sampler's size.")


class _FromLatents(LayerNode):
    """What nodes have in common whose method is given latents, SDXL."""

    configs: Mapping[str, str]
    """Methods by the choice."""
    latents: tuple[str, ...]
    """Inputs of LATENTs, in the order of the method's images."""

    @classmethod
    def schema_of(cls, node_id: str, name: str, about: str, *latents: Any) -> Any:
        """Returns a node's description.

        Args:
            node_id: Its id.
            name: What stands on it.
            about: What it does.
            latents: Its inputs of LATENTs.
        """
        inputs = [
            io.Model.Input("model"),
            io.Conditioning.Input("cond"),
            io.Conditioning.Input("uncond"),
            *latents,
            _config(cls.configs),
            weight_input(),
            stop_at_input(optional=True),
        ]
        outputs = [io.Model.Output(), io.Conditioning.Output(), io.Conditioning.Output()]
        return cls.schema(node_id, name, about, inputs, outputs)

    @classmethod
    def execute(
        cls,
        model: Any,
        cond: Any,
        uncond: Any,
        config: str,
        weight: float,
        stop_at: float = 1.0,
        **latents: Any,
    ) -> Any:
        concat = cls._concat(model, latents)
        method = find_method(cls.configs[config])
        made = cls.tools().apply(model, method, weight, stop_at, concat=concat)
        return io.NodeOutput(made, cond, uncond)

    @classmethod
    def _concat(cls, model: Any, latents: Mapping[str, Any]) -> Tensor:
        """Returns the given latents beside each other, `1 4n h w`, sampler's scale.

        Args:
            model: The MODEL, whose scale it is.
            latents: LATENTs by the input's name.

        Raises:
            BatchSizeError: One is a batch of several.
            ImageSizeError: One is none of an image.
        """
        host, found = cls.tools().host(model), []
        for name in cls.latents:
            latent = latent_of(latents[name])
            if len(latent) != 1:
                raise BatchSizeError(
                    f"{name} is a batch of {len(latent)}, and the method starts from one image.",
                    "Take one of them, such as by Latent From Batch.",
                )
            found.append(host.sampler_latent(latent))
        return torch.cat(found, dim=1)


class LayeredDiffusionCondApply(_FromLatents):
    """A blended image around a given layer, SDXL."""

    configs = _BLENDED
    latents = ("latent",)

    @classmethod
    def define_schema(cls) -> Any:
        return cls.schema_of(
            "LayeredDiffusionCondApply",
            "Layer Diffuse Cond Apply",
            "Makes a MODEL that draws an image around a given foreground, or on a given "
            "background. The conditionings pass through as they are.",
            _layer_latent(),
        )


class LayeredDiffusionCondJointApply(LayerNode):
    """The other layer and both together, of a given layer, SD1.5."""

    @classmethod
    def define_schema(cls) -> Any:
        return cls.schema(
            "LayeredDiffusionCondJointApply",
            "Layer Diffuse Cond Joint Apply",
            "Makes a MODEL that draws the missing layer and the blended image at once: give the "
            "sampler a batch of 2, 4 or 6 latents.",
            [
                io.Model.Input("model"),
                io.Image.Input("image", tooltip="The given layer; it may have alpha."),
                _config(_GIVEN_IMAGE),
                _own("cond", "new layer"),
                _own("blended_cond", "blended image"),
                weight_input(optional=True),
                stop_at_input(optional=True),
                io.Mask.Input("mask", optional=True, tooltip="Load Image's, of the given layer."),
            ],
            [io.Model.Output()],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        image: Tensor,
        config: str,
        cond: Any = None,
        blended_cond: Any = None,
        weight: float = 1.0,
        stop_at: float = 1.0,
        mask: Tensor | None = None,
    ) -> Any:
        method: LayerMethod = find_method(_GIVEN_IMAGE[config])
        control = image_tensor(flatten(as_rgba(only(image, "image", mask)))) * 2 - 1
        made = cls.tools().apply(
            model, method, weight, stop_at, control=control, prompts=_prompts(cond, blended_cond)
        )
        return io.NodeOutput(made)


class LayeredDiffusionDiffApply(_FromLatents):
    """The layer that is missing between a given one and the blended image, SDXL."""

    configs = _OTHER_LAYER
    latents = ("latent", "blended_latent")

    @classmethod
    def define_schema(cls) -> Any:
        return cls.schema_of(
            "LayeredDiffusionDiffApply",
            "Layer Diffuse Diff Apply",
            "Makes a MODEL that draws the layer that a blended image has beside a given one. The "
            "conditionings pass through as they are.",
            io.Latent.Input("blended_latent", tooltip="In the sampler's size."),
            _layer_latent(),
        )
