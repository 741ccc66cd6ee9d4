"""What the documents say about the code is true of the code."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from lib_layerdiffuse import methods, released
from lib_layerdiffuse.methods import METHODS, Layer, LayerMethod
from lib_layerdiffuse.settings.layer_settings import LayerSettings

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def name(document: Path) -> str:
    """A document's path in the project."""
    return document.relative_to(ROOT).as_posix()


def row(method: LayerMethod) -> str:
    """A method's row in the table of docs/methods.md."""
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


def test_the_page_of_methods_lists_them():
    text = (ROOT / "docs/methods.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| (")]
    rows = [re.sub(r"about [\d.]+ [MG]B", "about @", line) for line in rows]
    assert rows == [row(method) for method in METHODS]


def test_each_method_is_found_by_what_is_there_and_what_is_wanted():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text.partition("\n## Which method do I want?\n")[2].partition("\n## ")[0]
    lines = [line.strip("| ") for line in section.splitlines() if line.startswith("|")]
    rows = [re.split(r" *\| *", line) for line in lines]
    assert rows[:2] == [["I have", "I want", "Method"], ["---", "---", "---"]]
    found = {name: (layers_in(have), layers_in(want)) for have, want, name in rows[2:]}
    assert found == {
        f"{method.label} (`{method.id}`)": (set(method.inputs), set(method.outputs))
        for method in METHODS
    }


def layers_in(text: str) -> set[Layer]:
    """The layers that are named in a text."""
    return {layer for layer in Layer if layer.label.lower() in text}


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) < 1200


def test_each_page_is_linked_from_the_readme_or_a_page_that_is():
    pages = {ROOT / "README.md"}
    for _ in DOCUMENTS:
        pages |= {(page.parent / link).resolve() for page in pages for link in pages_linked(page)}
    missing = [page for page in ROOT.glob("docs/*.md") if page not in pages]
    assert missing == []


def pages_linked(page: Path) -> list[str]:
    """The pages of the project that a page links to."""
    return [link for link, _ in links_of(page) if link.endswith(".md")]


def test_the_page_of_the_api_names_the_settings():
    text = (ROOT / "docs/api.md").read_text(encoding="utf-8")
    api = re.search(r"^The names are (.*)$", text, re.MULTILINE)[1].partition(". ")[0]
    hidden = {"enabled", "output_origin"}
    assert (
        set(re.findall(r"`(\w+)`", api))
        == {field.metadata["api"] for field in fields(LayerSettings)} - hidden
    )


def test_the_worked_example_of_a_method_works(monkeypatch):
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    file, method = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    for stem, added in eval(f"_files({file.strip()})", vars(released)).items():
        monkeypatch.setitem(released.WEIGHT_FILES, stem, added)
    (new,) = eval(f"({method.strip()})", vars(methods))
    assert new.label == "(SDXL) From Background to Foreground"
    assert new.concat_channels == 4
    assert new.weight_files == (new.weights, methods.DECODERS[new.arch])
    assert new.id not in {m.id for m in METHODS}


def test_the_changelog_keeps_its_form():
    """Source: keepachangelog.com/en/1.1.0."""
    lines = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").splitlines()
    version, *older = [line for line in lines if line.startswith("## ")]
    assert version == "## [Unreleased]"
    assert all(re.fullmatch(r"## \[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", line) for line in older)
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert {line[4:] for line in lines if line.startswith("### ")} <= kinds


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_links_inside_the_project_lead_somewhere(document):
    broken = []
    for link, anchor in links_of(document):
        target = (document.parent / link).resolve() if link else document
        known = anchors(target) if anchor and target.suffix == ".md" else {anchor}
        if not target.exists() or anchor not in known:
            broken.append(f"{link}#{anchor}")
    assert broken == []


def links_of(document: Path) -> list[tuple[str, str]]:
    """Where a document's links inside the project lead: a path, or "", and an anchor, or ""."""
    text = without_code(document.read_text(encoding="utf-8"))
    links = re.findall(r"\]\(([^)\s]+)", text) + re.findall(r"(?:src|href)=\"([^\"]+)\"", text)
    inside = [link for link in links if not re.match(r"\w+:", link)]
    return [(link.partition("#")[0], link.partition("#")[2]) for link in inside]


def anchors(document: Path) -> set[str]:
    """The anchors that GitHub gives a document's headings."""
    text = without_code(document.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ +(.*?) *$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def without_code(text: str) -> str:
    """A document's text without blocks of code, whose comments look like headings."""
    return re.sub(r"^ *```.*?^ *```", "", text, flags=re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("document", [d for d in DOCUMENTS if d.name != "CHANGELOG.md"], ids=name)
def test_files_and_targets_that_are_named_exist(document):
    text = document.read_text(encoding="utf-8")
    files = re.findall(r"`((?:lib_layerdiffuse|tests|docs|scripts|bench)/[\w/-]*\.\w+)`", text)
    assert [file for file in files if not (ROOT / file).exists()] == []
    targets = set(re.findall(r"\bmake ([a-z0-9]+)\b(?=[`\s]* *(?:#|`|$))", text, re.MULTILINE))
    known = set(re.findall(r"^([a-z0-9]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    assert targets <= known
