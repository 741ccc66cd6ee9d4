"""The nodes that take sets apart and put them together."""

from __future__ import annotations

from typing import Any

import torch
from comfy_api.latest import io
from comfy_execution.graph import ExecutionBlocker
from torch import Tensor

from ..errors import ImageSizeError
from .layer_node import LayerNode
from .node_images import check_sets

_MOST = 3


class LayerDiffuseSplit(LayerNode):
    """Each layer of all sets."""

    @classmethod
    def define_schema(cls) -> Any:
        about = "Layers of a set, as the LayerDiffuse node says."
        return cls.schema(
            "LayerDiffuseSplit",
            "Split layers",
            "Takes a batch of whole sets apart: the first layer of each set, the second, the "
            "third.",
            [
                io.Image.Input("images"),
                io.Int.Input("frames", default=3, min=1, max=_MOST, tooltip=about),
            ],
            [io.Image.Output(display_name=name) for name in ("first", "second", "third")],
        )

    @classmethod
    def execute(cls, images: Tensor, frames: int) -> Any:
        check_sets(images, frames, "Set frames to the number of layers of a set.")
        found = [images[frame::frames] for frame in range(frames)]
        return io.NodeOutput(*found, *[ExecutionBlocker(None)] * (_MOST - frames))


class LayerDiffuseJoin(LayerNode):
    """Sets of single layers."""

    @classmethod
    def define_schema(cls) -> Any:
        names = ("first", "second", "third")
        return cls.schema(
            "LayerDiffuseJoin",
            "Join layers",
            "Puts the layers of sets into one batch, set by set.",
            [io.Image.Input(name, optional=name == "third") for name in names],
            [io.Image.Output()],
        )

    @classmethod
    def execute(cls, first: Tensor, second: Tensor, third: Tensor | None = None) -> Any:
        layers = [one for one in (first, second, third) if one is not None]
        if len({len(one) for one in layers}) > 1 or len({one.shape[1:3] for one in layers}) > 1:
            said = ", ".join(f"{len(one)} of {one.shape[2]}×{one.shape[1]}" for one in layers)
            raise ImageSizeError(
                f"The layers differ in number or size: {said}.",
                "Give as many images of each layer, all of one size.",
            )
        channels = max(one.shape[-1] for one in layers)
        whole = [_with_channels(one, channels) for one in layers]
        return io.NodeOutput(torch.stack(whole, dim=1).flatten(0, 1))


def _with_channels(image: Tensor, channels: int) -> Tensor:
    """Returns an IMAGE with alpha 1, where it has none and is to have some."""
    missing = channels - image.shape[-1]
    return torch.cat([image, torch.ones_like(image[..., :missing])], -1) if missing else image
