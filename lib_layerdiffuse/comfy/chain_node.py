"""The node that goes on where a first method ends: to the layer that is still missing."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ..errors import SettingsError
from ..methods import METHODS
from ..settings.chains import SECOND_STEPS, begins_chain, second_settings
from ..settings.layer_settings import LayerSettings
from .layer_node import LAYER_SETTINGS, LayerNode
from .node_images import empty_latent, only

_AUTHORS = -1.0


class LayerDiffuseChain(LayerNode):
    """A chain's second step: the missing layer, of the given one and what was blended with it."""

    @classmethod
    def define_schema(cls) -> Any:
        choices = [f"{choice.stop_at:g}" for choice in SECOND_STEPS.values()]
        stop_at = (
            "The method acts during this first part of the schedule. -1 takes the choice of the "
            f"methods' author: {choices[0]} for a background, {choices[1]} for a foreground."
        )
        bounds = {"default": _AUTHORS, "min": _AUTHORS, "max": 1.0, "step": 0.01}
        return cls.schema(
            "LayerDiffuseChain",
            "LayerDiffuse second step",
            "Goes on where a method that blends ends: makes a MODEL that draws the layer which is "
            "missing between the given one and the blended image. Sample once more with it.",
            [
                io.Model.Input("model", tooltip="The checkpoint's, without the first method."),
                LAYER_SETTINGS.Input("layers", tooltip="Of the first LayerDiffuse node."),
                io.Image.Input("blended", tooltip="Of the first LayerDiffuse decode."),
                io.Vae.Input("vae", tooltip="The checkpoint's."),
                io.Float.Input("stop_at", **bounds, tooltip=stop_at),
            ],
            [
                io.Model.Output(),
                LAYER_SETTINGS.Output(display_name="layers"),
                io.Latent.Output(tooltip="Empty, of the blended image's size."),
            ],
        )

    @classmethod
    def execute(
        cls, model: Any, layers: LayerSettings, blended: Tensor, vae: Any, stop_at: float
    ) -> Any:
        if not begins_chain(layers.method):
            able = " or ".join(one.label for one in METHODS if begins_chain(one))
            raise SettingsError(
                f"After {layers.method.label} no layer is missing that a second step could draw.",
                f"Choose {able} in the first LayerDiffuse node.",
                field="method",
            )
        image = only(blended, "blended")
        height, width = image.shape[:2]
        own = None if stop_at < 0 else stop_at
        settings = second_settings(layers, image, stop_at=own)
        made = cls.tools().apply_images(model, vae, settings, (width, height))
        return io.NodeOutput(made, settings, empty_latent(settings.method.frames, width, height))
