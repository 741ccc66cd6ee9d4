"""What ComfyUI's page says of the nodes: help, and labels in seven languages."""

from __future__ import annotations

from pathlib import Path

import pytest
from adapters import run
from comfy_nodes import nodes
from lent_webui import models

__all__ = ["models", "nodes", "run"]
pytestmark = pytest.mark.parametrize("run", ["comfy"], indirect=True)

ROOT = Path(__file__).parents[2]
HELP = ROOT / "lib_layerdiffuse" / "comfy" / "web" / "docs"
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
