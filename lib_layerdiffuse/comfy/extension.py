"""The pack as ComfyUI takes it: its entry point and the list of its nodes."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import ComfyExtension

from . import (
    decode_node,
    drop_in_apply,
    drop_in_decode,
    frame_nodes,
    latent_nodes,
    method_node,
    picture_nodes,
)


class LayerDiffuseExtension(ComfyExtension):
    """The nodes."""

    async def get_node_list(self) -> list[Any]:
        """Returns the classes of the nodes, in the order of the menu."""
        return [
            method_node.LayerDiffuseMethod,
            latent_nodes.LayerDiffuseEmptyLatent,
            latent_nodes.LayerDiffuseEncode,
            decode_node.LayerDiffuseDecode,
            frame_nodes.LayerDiffuseSplit,
            frame_nodes.LayerDiffuseJoin,
            picture_nodes.LayerDiffuseFlatten,
            picture_nodes.LayerDiffuseComposite,
            picture_nodes.LayerDiffuseMask,
            picture_nodes.LayerDiffuseSave,
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
