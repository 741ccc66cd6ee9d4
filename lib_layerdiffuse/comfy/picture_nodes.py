"""The nodes that work on finished layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import folder_paths
import numpy as np
import torch
from comfy_api.latest import io
from torch import Tensor

from ..documents.document import Document, DocumentLayer
from ..documents.kinds import DocumentKind, find_kinds
from ..documents.layer_set import document_of
from ..documents.writing import write_document
from ..errors import BatchSizeError, SettingsError
from ..imaging.images import GREY, FloatImage, ResizeMode, as_rgba, fit, flatten, to_u8
from ..imaging.masks import MaskSource, alpha_mask, feather
from ..methods import Layer
from .layer_node import LayerNode
from .node_images import arrays, image_of
from .node_inputs import mask_input

_PARTS = {"visible": MaskSource.VISIBLE, "transparent": MaskSource.TRANSPARENT}
_KINDS = [kind.label for kind in DocumentKind]


class LayerDiffuseFlatten(LayerNode):
    """An image without alpha."""

    @classmethod
    def define_schema(cls) -> Any:
        about = "The grey behind it. The methods were trained on 0.5."
        return cls.schema(
            "LayerDiffuseFlatten",
            "Flatten on grey",
            "Lays an image over one grey, as the methods do with images that they start from.",
            [
                io.Image.Input("image"),
                io.Float.Input("grey", default=GREY, min=0.0, max=1.0, step=0.01, tooltip=about),
                mask_input(),
            ],
            [io.Image.Output()],
        )

    @classmethod
    def execute(cls, image: Tensor, grey: float, mask: Tensor | None = None) -> Any:
        return io.NodeOutput(image_of([flatten(as_rgba(one), grey) for one in arrays(image, mask)]))


class LayerDiffuseComposite(LayerNode):
    """A foreground over a background."""

    @classmethod
    def define_schema(cls) -> Any:
        side = {"default": 0, "min": -16384, "max": 16384}
        return cls.schema(
            "LayerDiffuseComposite",
            "Composite layers",
            "Lays a foreground over a background, as it was drawn or moved and scaled.",
            [
                io.Image.Input("foreground"),
                io.Image.Input("background"),
                io.Int.Input("x", **side, tooltip="Of the foreground's left edge, in pixels."),
                io.Int.Input("y", **side, tooltip="Of the foreground's top edge, in pixels."),
                io.Float.Input(
                    "scale",
                    default=1.0,
                    min=0.01,
                    max=16.0,
                    step=0.01,
                    tooltip="Of the foreground.",
                ),
                mask_input("the foreground"),
            ],
            [io.Image.Output()],
        )

    @classmethod
    def execute(
        cls,
        foreground: Tensor,
        background: Tensor,
        x: int,
        y: int,
        scale: float,
        mask: Tensor | None = None,
    ) -> Any:
        layers, behind = arrays(foreground, mask), arrays(background)
        if len(behind) not in (1, len(layers)):
            raise BatchSizeError(
                f"There are {len(layers)} foregrounds and {len(behind)} backgrounds.",
                "Give one background, or one for each foreground.",
            )
        behind = behind * (len(layers) // len(behind))
        made = [
            _over(layer, image, x, y, scale) for layer, image in zip(layers, behind, strict=True)
        ]
        return io.NodeOutput(image_of(made))


def _over(layer: FloatImage, behind: FloatImage, x: int, y: int, scale: float) -> FloatImage:
    """Returns a layer over an image, `h w 3`; transparency of that is grey."""
    if scale != 1:
        height, width = (max(1, round(side * scale)) for side in layer.shape[:2])
        layer = fit(as_rgba(layer), width, height, ResizeMode.STRETCH)
    height, width = behind.shape[:2]
    above = DocumentLayer("Foreground", to_u8(layer), x, y)
    below = DocumentLayer("Background", to_u8(flatten(as_rgba(behind))))
    merged = Document(width, height, (below, above)).merged()
    return (merged[..., :3] / np.float32(255)).astype(np.float32)


class LayerDiffuseMask(LayerNode):
    """A mask of an image's own alpha."""

    @classmethod
    def define_schema(cls) -> Any:
        return cls.schema(
            "LayerDiffuseMask",
            "Mask from alpha",
            "Makes a mask of an image's visible or transparent part, for Set Latent Noise Mask.",
            [
                io.Image.Input("image", tooltip="RGBA, or RGB with a mask."),
                io.Combo.Input("part", options=list(_PARTS), tooltip="Which part is redrawn."),
                io.Float.Input(
                    "feather",
                    default=0.0,
                    min=0.0,
                    max=256.0,
                    step=0.5,
                    tooltip="Softens the edges by so many pixels.",
                ),
                mask_input(),
            ],
            [io.Mask.Output()],
        )

    @classmethod
    def execute(cls, image: Tensor, part: str, feather: float, mask: Tensor | None = None) -> Any:
        made = [_mask_of(one, _PARTS[part], feather) for one in arrays(image, mask)]
        return io.NodeOutput(torch.from_numpy(np.stack(made)))


def _mask_of(image: FloatImage, part: MaskSource, radius: float) -> FloatImage:
    return feather(alpha_mask(as_rgba(image), part), radius)


class LayerDiffuseSave(LayerNode):
    """Sets as files that image editors open."""

    @classmethod
    def define_schema(cls) -> Any:
        trim = "Cut each layer to what can be seen of it: smaller files."
        return cls.schema(
            "LayerDiffuseSave",
            "Save layers",
            "Saves each set's layers in one file that image editors open: PSD, OpenRaster, or a "
            "ZIP of PNGs.",
            [
                io.Combo.Input("kind", options=_KINDS, tooltip="The kind of file."),
                io.String.Input("filename_prefix", default="layers", tooltip="As in Save Image."),
                io.Boolean.Input("trim", default=False, tooltip=trim),
                *(io.Image.Input(layer.value, optional=True) for layer in Layer),
            ],
            [io.String.Output(display_name="files")],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, kind: str, filename_prefix: str, trim: bool, **given: Any) -> Any:
        layers = {
            layer: [to_u8(one) for one in arrays(given[layer.value])]
            for layer in Layer
            if given.get(layer.value) is not None
        }
        if not layers:
            raise SettingsError("There is no layer to save.", "Connect fg, bg or blended.")
        sets = max(map(len, layers.values()))
        uneven = {
            layer.value: len(all_) for layer, all_ in layers.items() if len(all_) not in (1, sets)
        }
        if uneven:
            said = ", ".join(f"{count} of {name}" for name, count in uneven.items())
            raise BatchSizeError(
                f"There are {said} for {sets} sets.", "Give one of each, or one for each set."
            )
        paths = []
        (chosen,) = find_kinds([kind])
        for number in range(sets):
            made = {layer: all_[number % len(all_)] for layer, all_ in layers.items()}
            height, width = next(iter(made.values())).shape[:2]
            folder, name, counter, _, _ = folder_paths.get_save_image_path(
                filename_prefix, folder_paths.get_output_directory(), width, height
            )
            path = Path(folder) / f"{name}_{counter:05}_"
            paths.append(str(write_document(path, document_of(made), chosen, trim=trim)))
        listed = "\n".join(paths)
        return io.NodeOutput(listed, ui={"text": [listed]})
