"""The pack as ComfyUI takes it: its entry point and the list of its nodes."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import ComfyExtension

from . import drop_in_apply, drop_in_decode


class LayerDiffuseExtension(ComfyExtension):
    """The nodes."""

    async def get_node_list(self) -> list[Any]:
        """Returns the classes of the nodes, in the order of the menu."""
        return [
            drop_in_apply.LayeredDiffusionApply,
            drop_in_apply.LayeredDiffusionJointApply,
            drop_in_apply.LayeredDiffusionCondApply,
            drop_in_apply.LayeredDiffusionCondJointApply,
            drop_in_apply.LayeredDiffusionDiffApply,
            drop_in_decode.LayeredDiffusionDecode,
            drop_in_decode.LayeredDiffusionDecodeRGBA,
            drop_in_decode.LayeredDiffusionDecodeSplit,
        ]


async def comfy_entrypoint() -> ComfyExtension:
    """Returns the pack."""
    return LayerDiffuseExtension()
