"""What ComfyUI's page says of the nodes: help, and labels in seven languages."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from adapters import run
from comfy_nodes import nodes
from lent_webui import models

__all__ = ["models", "nodes", "run"]
pytestmark = pytest.mark.parametrize("run", ["comfy"], indirect=True)

ROOT = Path(__file__).parents[2]
HELP = ROOT / "lib_layerdiffuse" / "comfy" / "web" / "docs"
LOCALES = ROOT / "locales"
COPIED = "Inference_Core_"
SECTIONS = ("## Input", "## Output", "## Example", "## What goes wrong")


@pytest.fixture
def schemas(nodes):
    """What the nodes say of themselves, but for the copies of old ones."""
    return {
        name: node.define_schema() for name, node in nodes.items() if not name.startswith(COPIED)
    }


def test_the_page_finds_the_help(run):
    assert f'"./{HELP.parent.relative_to(ROOT).as_posix()}"' in (ROOT / "__init__.py").read_text()


def test_each_node_has_help_of_its_inputs(run, schemas):
    pages = {path.stem: path.read_text(encoding="utf-8") for path in HELP.glob("*.md")}
    assert set(pages) == set(schemas)
    for name, schema in schemas.items():
        page = pages[name]
        assert page.startswith(f"# {schema.display_name}\n"), name
        assert [part for part in SECTIONS if f"\n{part}" not in page] == [], name
        about = page.partition("\n## Input")[2].partition("\n## Output")[0]
        rows = [line.split("|")[1] for line in about.splitlines() if line.startswith("| `")]
        named = [one.strip(" `") for row in rows for one in row.split(",")]
        assert sorted(named) == sorted(one.id for one in schema.inputs), name


def said(schema):
    """What the page says of a node in English, as ComfyUI's `nodeDefs.json` has it."""

    def slot(name, tooltip):
        texts = {"name": name, "tooltip": tooltip}
        return {key: text for key, text in texts.items() if text is not None}

    inputs = {one.id: slot(one.id, one.more.get("tooltip")) for one in schema.inputs}
    outputs = {
        str(number): slot(one.more.get("display_name"), one.more.get("tooltip"))
        for number, one in enumerate(schema.outputs)
    }
    texts = {"display_name": schema.display_name, "description": schema.description}
    outputs = {number: one for number, one in outputs.items() if one}
    return texts | {"inputs": inputs} | ({"outputs": outputs} if outputs else {})


def keys(texts):
    """All keys of nested dicts, and no text."""
    return {key: keys(one) for key, one in texts.items()} if isinstance(texts, dict) else None


def texts_of(tree):
    """The texts of nested dicts, with the path to each."""
    if isinstance(tree, str):
        return {(): tree}
    return {(key, *path): text for key, one in tree.items() for path, text in texts_of(one).items()}


@pytest.mark.parametrize("language", ["en", "de", "fr", "ja", "ko", "ru", "zh"])
def test_each_node_and_input_has_a_label(run, schemas, language):
    found = json.loads((LOCALES / language / "nodeDefs.json").read_text(encoding="utf-8"))
    english = {name: said(schema) for name, schema in schemas.items()}
    if language == "en":
        assert found == english  # Another text here would hide the node's.
    assert keys(found) == keys(english)
    texts = texts_of(found)
    assert all(text.strip() for text in texts.values())
    # The page reads these as places to fill, as other labels or as plurals.
    assert [path for path, text in texts.items() if set("{}@|") & set(text)] == []
    sentences = {path for path in texts if path[-1] in ("description", "tooltip")}
    left = {path for path in sentences if texts[path] == texts_of(english)[path]}
    assert left == (sentences if language == "en" else set())


def test_there_are_no_other_languages(run):
    assert len(list(LOCALES.iterdir())) == 7
