"""What all nodes have in common."""

from __future__ import annotations

from collections.abc import Sequence
from inspect import signature
from typing import Any

from comfy_api.latest import io

from .tools import Tools

CATEGORY = "LayerDiffuse"
LAYER_SETTINGS = io.Custom("LAYERDIFFUSE")
"""What the decoder has to know of a method's run: `LayerSettings`."""

_ALIASES = {
    "LayerDiffuseMethod": ["transparent", "RGBA", "alpha", "cutout", "layered diffusion"],
    "LayerDiffuseDecode": ["transparent", "RGBA", "alpha", "VAE decode"],
    "LayerDiffuseEncode": ["transparent", "RGBA", "alpha", "VAE encode", "img2img"],
    "LayerDiffuseEmptyLatent": ["batch", "sets"],
    "LayerDiffuseDifferential": ["change map", "inpaint"],
    "LayerDiffusePrompts": ["conditioning", "regional"],
    "LayerDiffuseChain": ["chain", "extract foreground", "extract background"],
    "LayerDiffuseFlatten": ["remove alpha", "grey background"],
    "LayerDiffuseComposite": ["overlay", "blend", "paste"],
    "LayerDiffuseMask": ["alpha to mask", "inpaint"],
    "LayerDiffuseSave": ["PSD", "ORA", "OpenRaster", "ZIP", "Photoshop", "Krita", "GIMP"],
}
"""What else people type to find a node, beside its name and the pack's."""


class LayerNode(io.ComfyNode):
    """A node of this pack."""

    _tools: Tools | None = None

    @classmethod
    def tools(cls) -> Tools:
        """Returns what the nodes share; it is made when one first runs."""
        if LayerNode._tools is None:
            LayerNode._tools = Tools()
        return LayerNode._tools

    @staticmethod
    def schema(
        node_id: str,
        name: str,
        about: str,
        inputs: Sequence[Any],
        outputs: Sequence[Any],
        **more: Any,
    ) -> Any:
        """Returns a node's description, in the pack's category."""
        if "search_aliases" in signature(io.Schema).parameters:  # Older ones have none.
            more["search_aliases"] = [*_ALIASES.get(node_id, ()), CATEGORY]
        return io.Schema(
            node_id=node_id,
            display_name=name,
            category=CATEGORY,
            description=about,
            inputs=list(inputs),
            outputs=list(outputs),
            **more,
        )
