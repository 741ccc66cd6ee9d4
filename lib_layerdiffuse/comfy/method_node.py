"""The node that puts any of the methods on a MODEL."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ..errors import MissingLayerError, SettingsError
from ..imaging.images import AnyImage, ResizeMode
from ..methods import Layer, LayerMethod, find_method
from ..settings.layer_settings import LayerSettings
from .layer_node import LAYER_SETTINGS, LayerNode
from .node_images import SIDE, latent_of, only
from .node_inputs import called, layer_prompt_input, method_input, stop_at_input, weight_input

_RESIZE_MODES = [mode.value for mode in ResizeMode]


def _given(layer: Layer) -> Any:
    about = f"The {called(layer)} to start from, where the method needs one; RGB or RGBA."
    return io.Image.Input(layer.value, optional=True, tooltip=about)


def _mask(layer: Layer) -> Any:
    about = f"Load Image's mask of the {called(layer)}."
    return io.Mask.Input(f"{layer.value}_mask", optional=True, tooltip=about)


class LayerDiffuseMethod(LayerNode):
    """Any method."""

    @classmethod
    def define_schema(cls) -> Any:
        resize = "How images to start from are fitted to the latent."
        latent = "The sampler's, to whose size images to start from are fitted."
        return cls.schema(
            "LayerDiffuseMethod",
            "LayerDiffuse",
            "Makes a MODEL that draws layers. Give the sampler as many latents as a set has "
            "layers, or a multiple; Empty layers latent does so.",
            [
                io.Model.Input("model"),
                method_input(),
                weight_input(),
                stop_at_input(),
                io.Combo.Input(
                    "resize_mode",
                    options=_RESIZE_MODES,
                    default=ResizeMode.CROP.value,
                    tooltip=resize,
                ),
                io.Vae.Input(
                    "vae", optional=True, tooltip="For SDXL methods that start from images."
                ),
                io.Latent.Input("latent", optional=True, tooltip=latent),
                *map(_given, Layer),
                *map(_mask, (Layer.FG, Layer.BG)),
                *map(layer_prompt_input, Layer),
            ],
            [
                io.Model.Output(),
                LAYER_SETTINGS.Output(display_name="layers"),
                io.Int.Output(display_name="frames", tooltip="Layers of a set."),
            ],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        method: str,
        weight: float,
        stop_at: float,
        resize_mode: str,
        vae: Any = None,
        latent: Any = None,
        **optional: Any,
    ) -> Any:
        chosen = find_method(method)
        images = _images(chosen, optional)
        if chosen.concat_channels and vae is None:
            raise SettingsError(
                "This method encodes the images that it starts from.",
                "Connect the checkpoint's VAE to vae.",
            )
        settings = LayerSettings(
            enabled=True,
            method=chosen,
            strength=weight,
            stop_at=stop_at,
            resize_mode=ResizeMode(resize_mode),
            **images,
        )
        own = {
            frame: optional[f"{layer.value}_cond"]
            for frame, layer in enumerate(chosen.layer_prompts)
            if optional.get(f"{layer.value}_cond") is not None
        }
        size = _size(settings, latent)
        made = cls.tools().apply_images(model, vae, settings, size, own)
        return io.NodeOutput(made, settings, chosen.frames)


def _images(method: LayerMethod, given: dict[str, Any]) -> dict[str, Any]:
    """Returns the images that a method starts from, by the settings' field.

    Raises:
        MissingLayerError: One is not connected.
    """
    images: dict[str, AnyImage] = {}
    for layer in method.inputs:
        image: Tensor | None = given.get(layer.value)
        if image is None:
            raise MissingLayerError(
                f"This method starts from a {layer.label.lower()} image.",
                f"Connect one to {layer.value}.",
                field=f"{layer.value}_image",
            )
        mask = given.get(f"{layer.value}_mask")
        images[f"{layer.value}_image"] = only(image, layer.value, mask)
    return images


def _size(settings: LayerSettings, latent: Any) -> tuple[int, int]:
    """Returns the width and height of what will be drawn, as far as they matter."""
    if latent is not None:
        height, width = latent_of(latent).shape[2:]
        return SIDE * width, SIDE * height
    given = [settings.image(layer) for layer in settings.method.inputs]
    if not given or given[0] is None:
        return SIDE, SIDE  # Nothing is fitted.
    height, width = given[0].shape[:2]
    return max(SIDE, width - width % SIDE), max(SIDE, height - height % SIDE)
