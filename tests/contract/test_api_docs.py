"""The requests of docs/api.md are answered as it says."""

from __future__ import annotations

import json
from importlib import import_module

import pytest
from api_docs import PAGE, Example, examples, holds
from started_webui import WebUI, picture

from lib_layerdiffuse.methods import METHODS
from lib_layerdiffuse.settings.schema import settings_schema

SMALL = {"width": 64, "height": 64}


@pytest.fixture
def ui(webui, models, tmp_path):
    ui = WebUI(models, tmp_path / "outputs")
    import_module("lib_layerdiffuse.webui.page.options").add_page()
    return ui


@pytest.mark.parametrize("example", examples(), ids=str)
def test_every_request_is_answered_as_told(ui, example: Example):
    ui.outputs.mkdir()
    picture().save(ui.outputs / "blended.png")
    ui.shared.opts.data["outdir_txt2img_samples"] = str(ui.outputs)
    method = next(m for m in METHODS if m.arch.value == example.family)
    text = json.dumps(example.body).replace(
        "/webui/outputs/txt2img-images", ui.outputs.resolve().as_posix()
    )
    body = json.loads(text) and json.loads(text) | SMALL
    change_map = ui.entry.DifferentialScript()
    example.check(*ui.serve(method, change_map).request(example.verb, example.path, body))


def test_all_of_the_pages_blocks_are_run():
    found = examples()
    page = PAGE.read_text(encoding="utf-8")
    assert page.count("```json") == len(found) + sum(e.body is not None for e in found)
    assert {e.status for e in found} == {200, 422}


def test_every_name_of_a_setting_on_the_page_is_one():
    names = set(settings_schema()["properties"])
    args = [e.body["alwayson_scripts"]["LayerDiffuse"]["args"] for e in examples() if e.body]
    given = {name for one in args if isinstance(one[0], dict) for name in one[0]}
    assert given - names == {"wieght"}


def test_what_is_told_is_really_compared():
    assert holds({"a": 1, "b": [{"c": 2, "d": 3}]}, {"b": [{"c": 2}]})
    assert not holds({"a": 1}, {"a": 2})
    assert not holds({"b": [{"c": 1}]}, {"b": [{"c": 2}]})
    assert not holds({"layers": ["fg"]}, {"layers": ["fg", "bg"]})
    assert holds({"file": "x", "size": 1}, {"file": "x", "size": 2})
    assert not holds({"detail": "x"}, {"detail": "y"})
