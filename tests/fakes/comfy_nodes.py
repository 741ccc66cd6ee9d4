"""The nodes as ComfyUI gets them, with its stand-in and small weights."""

from __future__ import annotations

import asyncio
from importlib import import_module

import pytest
import torch


@pytest.fixture
def nodes(run, models):
    """The nodes by their ids, with small weights; `run` has the MODELs."""
    import_module("folder_paths").models_dir = str(models)
    entry = import_module("lib_layerdiffuse.comfy.extension").comfy_entrypoint

    async def listed():
        extension = await entry()
        await extension.on_load()
        return await extension.get_node_list()

    yield {node.define_schema().node_id: node for node in asyncio.run(listed())}
    import_module("lib_layerdiffuse.comfy.layer_node").LayerNode._tools = None


def rand(*shape, seed=0):
    """Returns an IMAGE of seeded numbers in [0, 1]."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def is_blocked(output):
    """Whether what is behind an output does not run."""
    return type(output).__name__ == "ExecutionBlocker"
