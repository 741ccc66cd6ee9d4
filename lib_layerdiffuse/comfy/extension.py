"""The pack as ComfyUI takes it: its entry point and the list of its nodes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nodes as comfyui_nodes
from comfy_api.latest import ComfyExtension

from . import (
    chain_node,
    decode_node,
    drop_in_apply,
    drop_in_decode,
    frame_nodes,
    latent_nodes,
    method_node,
    picture_nodes,
    prompt_node,
)
from .same_ids import Warned, copies, share_help
from .tools import add_folder

OLD = (
    drop_in_apply.LayeredDiffusionApply,
    drop_in_apply.LayeredDiffusionJointApply,
    drop_in_apply.LayeredDiffusionCondApply,
    drop_in_apply.LayeredDiffusionCondJointApply,
    drop_in_apply.LayeredDiffusionDiffApply,
    drop_in_decode.LayeredDiffusionDecode,
    drop_in_decode.LayeredDiffusionDecodeRGBA,
    drop_in_decode.LayeredDiffusionDecodeSplit,
)
NEW = (
    method_node.LayerDiffuseMethod,
    chain_node.LayerDiffuseChain,
    latent_nodes.LayerDiffuseEmptyLatent,
    latent_nodes.LayerDiffuseEncode,
    latent_nodes.LayerDiffuseDifferential,
    prompt_node.LayerDiffusePrompts,
    decode_node.LayerDiffuseDecode,
    frame_nodes.LayerDiffuseSplit,
    frame_nodes.LayerDiffuseJoin,
    picture_nodes.LayerDiffuseFlatten,
    picture_nodes.LayerDiffuseComposite,
    picture_nodes.LayerDiffuseMask,
    picture_nodes.LayerDiffuseSave,
)
_FOLDER = Path(__file__).parents[2].name


class LayerDiffuseExtension(ComfyExtension):
    """The nodes."""

    async def on_load(self) -> None:
        """Tells ComfyUI of the folder of weight files, and the user of packs with the same ids."""
        add_folder()
        ids = [node.define_schema().node_id for node in OLD]
        warned = Warned(ids, __name__.rpartition(".")[0], _FOLDER)
        warned.look(comfyui_nodes.NODE_CLASS_MAPPINGS)
        server = _server()
        if server is not None:
            server.add_on_prompt_handler(_looking(warned))
            share_help(server.routes, OLD, _FOLDER)

    async def get_node_list(self) -> list[Any]:
        """Returns the classes of the nodes, in the order of the menu."""
        return [*NEW, *OLD, *copies(OLD, comfyui_nodes.NODE_CLASS_MAPPINGS)]


def _server() -> Any:
    """Returns ComfyUI's server; None where the nodes are used without one."""
    from server import PromptServer

    return getattr(PromptServer, "instance", None)


def _looking(warned: Warned) -> Callable[[Any], Any]:
    """Returns what looks again when a prompt comes, for packs that are loaded later."""

    def look(prompt: Any) -> Any:
        warned.look(comfyui_nodes.NODE_CLASS_MAPPINGS)
        return prompt

    return look


async def comfy_entrypoint() -> ComfyExtension:
    """Returns the pack."""
    return LayerDiffuseExtension()
