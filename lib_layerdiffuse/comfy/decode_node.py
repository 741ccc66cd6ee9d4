"""The node that makes a sampler's latents the layers of sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from comfy_api.latest import io
from comfy_execution.graph import ExecutionBlocker
from torch import Tensor

from ..documents.layer_set import document_of
from ..errors import SettingsError
from ..imaging.coverage import Verdict, measure
from ..imaging.images import ImageU8, to_u8
from ..methods import Layer, LayerMethod
from ..outputs import with_given
from ..settings.layer_settings import LayerSettings
from .layer_node import LAYER_SETTINGS, LayerNode
from .node_images import arrays, check_sets, image_of, latent_of, pixels_of
from .node_inputs import views_input

_HAS_LAYERS = hasattr(io, "Layers")
"""Whether this ComfyUI has documents in layers of its own."""

_SAID = {
    Verdict.TRANSPARENT: "transparent",
    Verdict.OPAQUE: "opaque all over: was it drawn with a method, and decoded for its family?",
    Verdict.EMPTY: "empty: nothing of it can be seen",
}
_Set = Mapping[Layer, ImageU8]


class LayerDiffuseDecode(LayerNode):
    """Layers of latents."""

    @classmethod
    def define_schema(cls) -> Any:
        layers = "Of the LayerDiffuse node whose MODEL has sampled."
        images = "What VAE Decode made of the samples, where that was done already."
        own = [io.Layers.Output(display_name="document")] if _HAS_LAYERS else []
        return cls.schema(
            "LayerDiffuseDecode",
            "LayerDiffuse decode",
            "Takes the sets of a batch apart and finds the foreground's alpha. Layers that the "
            "method was given are given back; outputs of layers that there are none of do "
            "nothing.",
            [
                io.Latent.Input("samples", tooltip="As the sampler gave them."),
                LAYER_SETTINGS.Input("layers", tooltip=layers),
                views_input(),
                io.Vae.Input("vae", optional=True, tooltip="The checkpoint's."),
                io.Image.Input("images", optional=True, tooltip=images),
            ],
            [
                io.Image.Output(display_name="foreground", tooltip="With alpha."),
                io.Image.Output(display_name="background"),
                io.Image.Output(display_name="blended"),
                io.Mask.Output(display_name="mask", tooltip="1 where the foreground is clear."),
                io.String.Output(display_name="report"),
                *own,
            ],
        )

    @classmethod
    def execute(
        cls, samples: Any, layers: LayerSettings, views: int, vae: Any = None, images: Any = None
    ) -> Any:
        latent = latent_of(samples)
        if images is None:
            if vae is None:
                raise SettingsError(
                    "There is nothing to decode the samples with.",
                    "Connect the checkpoint's VAE to vae, or VAE Decode's IMAGE to images.",
                )
            images = vae.decode(samples["samples"])
        made = _sets(cls, layers.method, latent, images, views)
        whole = [with_given(one, layers) for one in made]
        foreground = _batch(whole, Layer.FG)
        mask = None
        if foreground is not None and foreground.shape[-1] == 4:
            mask = 1 - foreground[..., 3]
        found = [foreground, _batch(whole, Layer.BG), _batch(whole, Layer.BLENDED), mask]
        outputs = [ExecutionBlocker(None) if one is None else one for one in found]
        own = [_document(made, layers)] if _HAS_LAYERS else []
        return io.NodeOutput(*outputs, _report(made), *own)


def _sets(
    cls: type[LayerNode], method: LayerMethod, latent: Tensor, images: Tensor, views: int
) -> list[_Set]:
    """Returns each set's layers, the foreground with its alpha.

    Raises:
        BatchSizeError: The batch makes no whole sets.
    """
    frames = method.frames
    check_sets(images, frames, "Connect the batch as the sampler gave it.")
    pictures: list[Any] = [to_u8(one) for one in arrays(images[..., :3])]
    frame = method.fg_frame
    if frame is not None:
        rows = slice(frame, None, frames)
        pictures[rows] = cls.tools().decode(
            method.arch, pixels_of(images)[rows], latent[rows], views
        )
    return [
        dict(zip(method.outputs, pictures[first : first + frames], strict=True))
        for first in range(0, len(pictures), frames)
    ]


def _batch(sets: Sequence[_Set], layer: Layer) -> Tensor | None:
    """Returns a layer of all sets; None where there is none."""
    return image_of([one[layer] for one in sets]) if layer in sets[0] else None


def _document(sets: Sequence[_Set], settings: LayerSettings) -> Any:
    """Returns the sets as ComfyUI's own document, the first set at the bottom."""
    height, width = next(iter(sets[0].values())).shape[:2]
    layers: list[Any] = []
    for number, made in enumerate(sets, start=1):
        set_of = document_of(made, settings, number=number if len(sets) > 1 else None)
        for layer in set_of.layers:
            given = {"image": image_of([layer.image]), "type": "raster", "name": layer.name}
            place = {"x": layer.left, "y": layer.top, "z_index": len(layers)}
            shown = {"opacity": layer.opacity, "visible": layer.visible and number == 1}
            layers.append(given | place | shown)
    return {"version": 1, "canvas": (width, height), "layers": layers}


def _report(sets: Sequence[_Set]) -> str:
    """Returns what is known of each foreground that was made, a line each."""
    lines = []
    for number, made in enumerate(sets, start=1):
        image = made.get(Layer.FG)
        if image is not None:
            found = measure(image)
            said = _SAID[found.verdict]
            lines.append(f"Foreground {number}: {said}; its alpha is {found.mean:.2f} on average.")
    return "\n".join(lines) or "The method makes no foreground."
