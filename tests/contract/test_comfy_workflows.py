"""The example workflows hold what the nodes have, and nothing of other packs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from adapters import run
from comfy_nodes import nodes
from lent_webui import models

from lib_layerdiffuse.methods import METHODS

__all__ = ["models", "nodes", "run"]
pytestmark = pytest.mark.parametrize("run", ["comfy"], indirect=True)

FILES = sorted((Path(__file__).parents[2] / "example_workflows").glob("*.json"))
WIDGETS = {"Combo", "Float", "Int", "String", "Boolean"}
OF_COMFYUI = {
    "CLIPTextEncode",
    "CheckpointLoaderSimple",
    "KSampler",
    "LoadImage",
    "SaveImage",
    "SetLatentNoiseMask",
}


def test_they_are_what_the_nodes_are(run, nodes):
    used = set()
    for path in FILES:
        workflow = json.loads(path.read_text(encoding="utf-8"))
        for node in workflow["nodes"]:
            if node["type"] in OF_COMFYUI:
                continue
            used.add(node["type"])
            schema = nodes[node["type"]].define_schema()
            widgets = [one for one in schema.inputs if one.kind in WIDGETS]
            sockets = [one.id for one in schema.inputs if one.kind not in WIDGETS]
            assert [one["name"] for one in node["inputs"]] == sockets, path.name
            for widget, value in zip(widgets, node["widgets_values"], strict=True):
                assert value in widget.more.get("options", [value]), path.name
            needed = {one.id for one in schema.inputs if not one.optional}
            loose = {one["name"] for one in node["inputs"] if one["link"] is None}
            assert not needed & loose, path.name
            assert len(node["outputs"]) == len(schema.outputs)
    assert {"LayerDiffuseMethod", "LayerDiffuseDecode", "LayerDiffuseEncode"} <= used


def test_each_link_is_known_at_both_ends(run):
    assert len(FILES) >= 12
    for path in FILES:
        workflow = json.loads(path.read_text(encoding="utf-8"))
        by_id = {node["id"]: node for node in workflow["nodes"]}
        for number, source, output, target, slot, kind in workflow["links"]:
            assert number in by_id[source]["outputs"][output]["links"], path.name
            assert by_id[source]["outputs"][output]["type"] == kind, path.name
            assert by_id[target]["inputs"][slot] == by_id[target]["inputs"][slot] | {
                "link": number,
                "type": kind,
            }


def test_every_method_has_one(run):
    texts = [path.read_text(encoding="utf-8") for path in FILES]
    for method in METHODS:
        assert any(json.dumps(method.label) in text for text in texts), method.id
