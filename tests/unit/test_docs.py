"""What the documents say about the code is true of the code."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from lib_layerdiffuse import methods
from lib_layerdiffuse.methods import METHODS, Layer, LayerMethod
from lib_layerdiffuse.settings.layer_settings import LayerSettings

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def row(method: LayerMethod) -> str:
    """A method's row of the README's table."""
    return (
        f"| {method.label} | `{method.id}` | {names(method.inputs)} | {names(method.outputs)} "
        f"| `{method.weights.filename}`, {size(method.weights.size)} |"
    )


def names(layers: tuple[Layer, ...]) -> str:
    return ", ".join(layer.label.lower() for layer in layers) or "nothing"


def size(count: int | None) -> str:
    """A size of people's kind; where it is not published to the byte, any figure will do."""
    if count is None:
        return "about @"
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def test_the_readme_lists_the_methods():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| (")]
    rows = [re.sub(r"about [\d.]+ [MG]B", "about @", line) for line in rows]
    assert rows == [row(method) for method in METHODS]


def test_the_readme_names_the_settings():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    api = re.search(r"^The names are (.*)$", text, re.MULTILINE)[1].partition(". ")[0]
    hidden = {"enabled", "output_origin"}
    assert (
        set(re.findall(r"`(\w+)`", api))
        == {field.metadata["api"] for field in fields(LayerSettings)} - hidden
    )


def test_the_worked_example_of_a_method_works(monkeypatch):
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    file, method = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    for stem, added in eval(f"_files({file.strip()})", vars(methods)).items():
        monkeypatch.setitem(methods.WEIGHT_FILES, stem, added)
    (new,) = eval(f"({method.strip()})", vars(methods))
    assert new.label == "(SDXL) From Background to Foreground"
    assert new.concat_channels == 4
    assert new.weight_files == (new.weights, methods.DECODERS[new.arch])
    assert new.id not in {m.id for m in METHODS}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_inside_the_project_lead_somewhere(document):
    text = document.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)", text) if "://" not in link]
    assert [link for link in links if not (document.parent / link).exists()] == []


@pytest.mark.parametrize(
    "document", [d for d in DOCUMENTS if d.name != "CHANGELOG.md"], ids=lambda path: path.name
)
def test_files_and_targets_that_are_named_exist(document):
    text = document.read_text(encoding="utf-8")
    files = re.findall(r"`((?:lib_layerdiffuse|tests|docs|scripts|bench)/[\w/-]*\.\w+)`", text)
    assert [file for file in files if not (ROOT / file).exists()] == []
    targets = set(re.findall(r"\bmake ([a-z0-9]+)\b(?=[`\s]* *(?:#|`|$))", text, re.MULTILINE))
    known = set(re.findall(r"^([a-z0-9]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    assert targets <= known
