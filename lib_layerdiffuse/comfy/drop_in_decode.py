"""The three nodes that find alpha, as older workflows have them; see `drop_in_apply`."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ..methods import Arch
from .layer_node import LayerNode
from .node_images import check_sets, image_of, latent_of, pixels_of
from .node_inputs import views_input

_FAMILIES = {"SD15": Arch.SD15, "SDXL": Arch.SDXL}


def _inputs(*before: Any) -> list[Any]:
    family = "The checkpoint's family. The decoder of the other one finds alpha, too, but wrong."
    about = "Kept for old workflows: images are decoded one by one."
    return [
        io.Latent.Input("samples", tooltip="As the sampler gave it."),
        io.Image.Input("images", tooltip="As VAE Decode gave it of the same latent."),
        *before,
        io.Combo.Input("sd_version", options=list(_FAMILIES), default="SDXL", tooltip=family),
        io.Int.Input("sub_batch_size", default=16, min=1, max=4096, tooltip=about),
        views_input(optional=True),
    ]


def _decoded(
    cls: type[LayerNode], samples: Any, images: Tensor, sd_version: str, views: int
) -> Tensor:
    """Returns a batch's straight RGBA as an IMAGE."""
    latent = latent_of(samples)
    made = cls.tools().decode(_FAMILIES[sd_version], pixels_of(images), latent, views)
    return image_of(made)


class LayeredDiffusionDecode(LayerNode):
    """Colour and alpha apart."""

    @classmethod
    def define_schema(cls) -> Any:
        return cls.schema(
            "LayeredDiffusionDecode",
            "Layer Diffuse Decode",
            "Finds colour and alpha of what a method has drawn. The MASK is alpha itself, 1 where "
            "the image is opaque: put Invert Mask before nodes that want ComfyUI's masks.",
            _inputs(),
            [io.Image.Output(), io.Mask.Output()],
        )

    @classmethod
    def execute(
        cls, samples: Any, images: Tensor, sd_version: str, sub_batch_size: int, views: int = 8
    ) -> Any:
        rgba = _decoded(cls, samples, images, sd_version, views)
        return io.NodeOutput(rgba[..., :3].contiguous(), rgba[..., 3].contiguous())


class LayeredDiffusionDecodeRGBA(LayerNode):
    """An image with alpha."""

    @classmethod
    def define_schema(cls) -> Any:
        return cls.schema(
            "LayeredDiffusionDecodeRGBA",
            "Layer Diffuse Decode (RGBA)",
            "Finds colour and alpha of what a method has drawn, as an image with four channels.",
            _inputs(),
            [io.Image.Output()],
        )

    @classmethod
    def execute(
        cls, samples: Any, images: Tensor, sd_version: str, sub_batch_size: int, views: int = 8
    ) -> Any:
        return io.NodeOutput(_decoded(cls, samples, images, sd_version, views))


class LayeredDiffusionDecodeSplit(LayerNode):
    """The layers of sets, apart; the first of each with alpha."""

    @classmethod
    def define_schema(cls) -> Any:
        about = "Layers of a set: 3 for Joint Apply, 2 for Cond Joint Apply."
        frames = io.Int.Input("frames", default=2, min=2, max=3, tooltip=about)
        return cls.schema(
            "LayeredDiffusionDecodeSplit",
            "Layer Diffuse Decode (Split)",
            "Takes the sets of a batch apart. The first layer of each gets its alpha; the others "
            "pass as they are.",
            _inputs(frames),
            [io.Image.Output(), io.Image.Output(), io.Image.Output()],
        )

    @classmethod
    def execute(
        cls,
        samples: Any,
        images: Tensor,
        frames: int,
        sd_version: str,
        sub_batch_size: int,
        views: int = 8,
    ) -> Any:
        hint = "Set frames to the number of layers of a set, or decode whole sets."
        check_sets(images, frames, hint)
        latent = {"samples": latent_of(samples)[::frames]}
        first = _decoded(cls, latent, images[::frames], sd_version, views)
        others: list[Tensor | None] = [images[frame::frames] for frame in range(1, frames)]
        return io.NodeOutput(first, *others, *[None] * (3 - frames))
