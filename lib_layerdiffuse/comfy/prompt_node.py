"""The node that gives the layers of a set prompts of their own."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..hosts.comfy.layer_prompts import rows_of
from ..methods import Layer, find_method
from .layer_node import LayerNode
from .node_inputs import layer_prompt_input, method_input


class LayerDiffusePrompts(LayerNode):
    """One conditioning with a row for each layer."""

    @classmethod
    def define_schema(cls) -> Any:
        return cls.schema(
            "LayerDiffusePrompts",
            "Layer prompts",
            "Makes one conditioning of those of a set's layers, for the sampler's positive or "
            "negative.",
            [
                io.Conditioning.Input("cond", tooltip="Of the layers that have none of their own."),
                method_input(),
                *map(layer_prompt_input, Layer),
            ],
            [io.Conditioning.Output()],
        )

    @classmethod
    def execute(cls, cond: Any, method: str, **own: Any) -> Any:
        outputs = find_method(method).outputs
        given = {frame: own.get(f"{layer.value}_cond") for frame, layer in enumerate(outputs)}
        prompts = {frame: one for frame, one in given.items() if one is not None}
        return io.NodeOutput(rows_of(cond, len(outputs), prompts))
