"""Other packs of ComfyUI that bring nodes of the same ids, or copies of them."""

from __future__ import annotations

import asyncio
from importlib import import_module
from pathlib import Path

import pytest
from adapters import run
from comfy_nodes import nodes
from lent_webui import models

__all__ = ["models", "nodes", "run"]
HELP = Path(__file__).parents[2] / "lib_layerdiffuse" / "comfy" / "web" / "docs"
pytestmark = pytest.mark.parametrize("run", ["comfy"], indirect=True)


class TestOtherPacks:
    def entry(self, taken):
        import_module("nodes").NODE_CLASS_MAPPINGS.update(taken)
        extension = import_module("lib_layerdiffuse.comfy.extension").LayerDiffuseExtension()
        asyncio.run(extension.on_load())
        found = asyncio.run(extension.get_node_list())
        return {node.define_schema().node_id: node for node in found}

    @pytest.fixture
    def peer(self):
        theirs = type("LayeredDiffusionDecode", (), {})
        theirs.__module__ = "/a/custom_nodes/ComfyUI-layerdiffuse.layered_diffusion"
        theirs.RELATIVE_PYTHON_MODULE = "custom_nodes.ComfyUI-layerdiffuse"
        return theirs

    @pytest.mark.parametrize("when", ["before", "after"])
    def test_one_with_the_same_ids_is_told_of_once(self, run, nodes, peer, caplog, when):
        taken = {"LayeredDiffusionDecode": peer}
        self.entry(taken if when == "before" else {})
        assert ("ComfyUI-layerdiffuse" in caplog.text) is (when == "before")
        import_module("nodes").NODE_CLASS_MAPPINGS.update(taken)
        server = import_module("server").PromptServer.instance
        for prompt in ({"a": 1}, {"b": 2}):
            assert server.on_prompt_handlers[-1](prompt) is prompt
        told = [record for record in caplog.records if record.levelname == "WARNING"]
        assert len(told) == 1
        root = import_module("lib_layerdiffuse.comfy.extension")._FOLDER
        assert root in told[0].getMessage()
        assert "Remove ComfyUI-layerdiffuse." in told[0].getMessage()

    def test_ours_alone_are_no_matter(self, run, nodes, caplog):
        self.entry(dict(nodes))
        assert not caplog.records

    def test_the_copies_of_another_pack_open_and_run(self, run, nodes):
        old = [node_id for node_id in nodes if node_id.startswith("LayeredDiffusion")]
        assert len(old) == 8
        for node_id in old:
            copy, node = nodes[f"Inference_Core_{node_id}"], nodes[node_id]
            one, other = copy.define_schema(), node.define_schema()
            assert one.is_deprecated
            assert [i.id for i in one.inputs] == [i.id for i in other.inputs]
            assert copy.execute.__func__ is node.execute.__func__
            assert other.node_id == node_id

    def test_the_copies_have_the_help_of_the_nodes(self, run, nodes):
        self.entry({})
        handlers = import_module("server").PromptServer.instance.routes.handlers
        copied = [node_id for node_id in nodes if node_id.startswith("Inference_Core_")]
        root = import_module("lib_layerdiffuse.comfy.extension")._FOLDER
        assert set(handlers) == {f"/extensions/{root}/docs/{one}.md" for one in copied}
        for address, handler in handlers.items():
            with pytest.raises(import_module("aiohttp").web.HTTPFound) as found:
                asyncio.run(handler(None))
            page = address.rpartition("/")[2].removeprefix("Inference_Core_")
            assert found.value.location == page
            assert (HELP / page).exists()

    def test_another_packs_own_stay(self, run, nodes, peer):
        name = "Inference_Core_LayeredDiffusionApply"
        assert name not in self.entry({name: peer})
