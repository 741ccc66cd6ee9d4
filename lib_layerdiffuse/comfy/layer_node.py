"""What all nodes have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from comfy_api.latest import io

from .tools import Tools

CATEGORY = "LayerDiffuse"
_ALIASES = ["transparent", "alpha", "RGBA", "layer", "layerdiffuse"]


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
        return io.Schema(
            node_id=node_id,
            display_name=name,
            category=CATEGORY,
            description=about,
            inputs=list(inputs),
            outputs=list(outputs),
            search_aliases=_ALIASES,
            **more,
        )
