"""The nodes in ComfyUI's page, used as people use them."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path

import pytest
from comfy_page import ComfyPage
from workflow_file import Workflow

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "example_workflows").glob("*.json"))
OLD = (
    "LayeredDiffusionApply",
    "LayeredDiffusionJointApply",
    "LayeredDiffusionCondApply",
    "LayeredDiffusionCondJointApply",
    "LayeredDiffusionDiffApply",
    "LayeredDiffusionDecode",
    "LayeredDiffusionDecodeRGBA",
    "LayeredDiffusionDecodeSplit",
)
COPIED = "Inference_Core_"
COPIES = [f"{COPIED}{kind}" for kind in OLD]
NEW = sorted(path.stem for path in ROOT.glob("lib_layerdiffuse/comfy/web/docs/LayerDiffuse*.md"))
TITLE = 30  # Of a node, above its box.
LANGUAGES = ("en", "de", "fr", "ja", "ko", "ru", "zh")

pytestmark = pytest.mark.usefixtures("screenshot")


def opened(page: ComfyPage, workflow: dict) -> list[dict]:
    """Returns a workflow's nodes on the page, where nothing of it is lost."""
    found = page.open(workflow)
    assert [one["type"] for one in found] == [one["type"] for one in workflow["nodes"]]
    assert [one["type"] for one in found if not one["known"]] == []
    for of, node in zip(found, workflow["nodes"], strict=True):
        assert of["widgets"] == node["widgets_values"], node["type"]
        linked = {one["name"] for one in node["inputs"] if one["link"] is not None}
        assert set(of["links"]) == linked, node["type"]
    return found


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_opens_whole_and_nothing_overlaps(page: ComfyPage, path: Path) -> None:
    found = opened(page, json.loads(path.read_text(encoding="utf-8")))
    for one in found:
        assert one["box"][3] >= one["needs"][1], one["type"]  # Else the page makes it higher.
    for one, other in combinations(found, 2):
        assert not overlap(one["box"], other["box"]), (one["title"], other["title"])
    page.page.wait_for_timeout(1000)  # Until it is drawn.


def overlap(one: list[float], other: list[float]) -> bool:
    """Whether two nodes with their titles do."""
    (x, y, w, h), (x2, y2, w2, h2) = one, other
    return x < x2 + w2 and x2 < x + w and y - TITLE < y2 + h2 and y2 - TITLE < y + h


def test_the_old_nodes_keep_their_widgets_values(page: ComfyPage) -> None:
    known = page.get("/object_info")
    workflow = Workflow(known)
    changed = {"weight": 0.65, "sub_batch_size": 7, "stop_at": 0.5, "views": 3}
    for kind in OLD:
        names = [name for part in known[kind]["input"].values() for name in part]
        workflow.add(kind, **{name: value for name, value in changed.items() if name in names})
    found = opened(page, workflow.saved())
    assert all(set(one["widgets"]) & set(changed.values()) for one in found)


@pytest.mark.parametrize("kind", [*NEW, *OLD, *COPIES])
def test_each_node_has_its_help_on_the_page(page: ComfyPage, kind: str) -> None:
    shown = page.help(kind)
    name = f"{kind.removeprefix(COPIED)}.md"
    page_text = (ROOT / "lib_layerdiffuse/comfy/web/docs" / name).read_text("utf-8")
    assert page_text.splitlines()[0].removeprefix("# ") in shown
    assert "What goes wrong" in shown


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("layerdiffuse", "LayerDiffuse"),
        ("transparent", "LayerDiffuse"),
        ("transparent", "LayerDiffuse decode"),
        ("inpaint", "Mask from alpha"),
        ("PSD", "Save layers"),
    ],
)
def test_nodes_are_found_by_other_words(page: ComfyPage, text: str, wanted: str) -> None:
    if not page.get("/object_info/LayerDiffuseMethod")["LayerDiffuseMethod"].get("search_aliases"):
        pytest.skip("nodes have no other words in this ComfyUI")
    assert wanted in page.search(text)


@pytest.mark.parametrize("language", ["fr", "ja", "ko", "ru", "zh"])
def test_labels_are_in_the_pages_language(page: ComfyPage, language: str) -> None:
    texts = json.loads((ROOT / "locales" / language / "nodeDefs.json").read_text("utf-8"))
    page.speak(language)
    for kind in (*NEW, *OLD):
        names = [one["name"] for one in texts[kind]["inputs"].values()]
        found = page.labels(kind)
        assert found[0] == texts[kind]["display_name"]
        assert sorted(found[1:]) == sorted(names), kind
    page.open(json.loads(EXAMPLES[-2].read_text(encoding="utf-8")))
    page.page.wait_for_timeout(1000)


def test_the_server_has_german_labels_which_its_page_does_not_offer(page: ComfyPage) -> None:
    assert set(LANGUAGES) <= set(page.get("/i18n"))
    texts = json.loads((ROOT / "locales/de/nodeDefs.json").read_text("utf-8"))
    found = page.get("/i18n")["de"]["nodeDefs"]
    assert {kind: found[kind] for kind in texts} == texts


def test_each_example_has_a_picture(page: ComfyPage) -> None:
    for path in EXAMPLES:
        address = f"/api/workflow_templates/LayerDiffuse/{path.stem}.jpg"
        answer = page.page.request.get(page.page.url.rstrip("/") + address)
        assert answer.ok
        assert answer.body() == path.with_suffix(".jpg").read_bytes()
