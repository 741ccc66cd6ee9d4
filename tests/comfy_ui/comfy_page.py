"""ComfyUI's page, as the tests see it."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Page

_READY = "() => Boolean(window.app?.graph && window.app?.canvas && window.app?.vueAppReady)"
_OPEN = """async workflow => {
    await window.app.loadGraphData(workflow);
    return window.app.graph._nodes.map(node => ({
        type: node.type,
        title: node.title,
        known: node.type in LiteGraph.registered_node_types,
        widgets: (node.widgets ?? []).map(one => one.value),
        links: (node.inputs ?? []).filter(one => one.link != null).map(one => one.name),
        box: [...node.pos, ...node.size],
        needs: node.computeSize(),
    }));
}"""
_LABELS = """kind => {
    const node = LiteGraph.createNode(kind);
    const label = slot => slot.localized_name ?? slot.label ?? slot.name;
    return [
        node.title,
        ...(node.inputs ?? []).filter(one => !one.widget).map(label),
        ...(node.widgets ?? []).map(one => one.label ?? one.name),
    ];
}"""
_SELECT = """kind => {
    const {canvas, graph} = window.app, node = LiteGraph.createNode(kind);
    graph.clear();
    node.pos = [0, 0];
    graph.add(node);
    Object.assign(canvas.ds, {scale: 1, offset: [500, 300]});
    canvas.selectNode(node);
    canvas.setDirty(true, true);
}"""
_CLICKS = 5  # The page takes two that come late on a busy machine for single ones.
_LONGEST = 180_000  # Milliseconds until the page is there: it is large.


class ComfyPage:
    """One page.

    Attributes:
        page: Playwright's page, for what has no method here.
        language: What it is in.
    """

    def __init__(self, page: Page, url: str) -> None:
        """Opens it, in English.

        Args:
            page: A fresh one.
            url: The server's.
        """
        self.page, self._url = page, url
        self.set_up({"Comfy.TutorialCompleted": True, "Comfy.Minimap.Visible": False})
        self.speak("en")

    def set_up(self, settings: Mapping[str, Any]) -> None:
        """Changes settings on the server; the page has them once it is loaded again."""
        body = json.dumps(settings).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self._url}/api/settings", body, headers)
        with urllib.request.urlopen(request, timeout=60):
            pass

    def speak(self, language: str) -> None:
        """Loads the page in a language."""
        self.language = language
        self.set_up({"Comfy.Locale": language})
        self.page.goto(self._url)
        self.page.wait_for_function(_READY, timeout=_LONGEST)
        self.page.wait_for_load_state("networkidle", timeout=_LONGEST)

    def get(self, path: str) -> Any:
        """Returns what the server answers."""
        with urllib.request.urlopen(f"{self._url}{path}", timeout=60) as answer:
            return json.load(answer)

    def open(self, workflow: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Returns what the page makes of each node of a workflow, in its order.

        `known` is whether there is such a node, `links` names the inputs that are connected, `box`
        is where it is and how large, `needs` the size that its widgets take.
        """
        found = self.page.evaluate(_OPEN, workflow)
        self.page.keyboard.press("Escape")  # Closes what is said of missing models.
        return found

    def labels(self, kind: str) -> list[str]:
        """Returns what stands on a node: its title, its sockets, its widgets."""
        return self.page.evaluate(_LABELS, kind)

    def search(self, text: str) -> list[str]:
        """Returns the nodes that are found for what one types, by what they are called."""
        self.page.evaluate("() => window.app.graph.clear()")
        box = self.page.locator("#graph-canvas").bounding_box()
        assert box is not None
        field = self.page.locator("[role=combobox]:visible, [role=dialog] input:visible").first
        for _ in range(_CLICKS):
            self.page.mouse.dblclick(box["x"] + 600, box["y"] + 500)
            self.page.wait_for_timeout(2000)
            if field.is_visible():
                break
        field.fill(text)
        options = self.page.locator("[role=option]:visible")
        options.first.wait_for()
        self.page.wait_for_timeout(1000)  # It looks once typing has paused.
        found = options.all_inner_texts()
        self.page.keyboard.press("Escape")
        field.wait_for(state="hidden")
        return [one.strip().splitlines()[0] for one in found]

    def help(self, kind: str) -> str:
        """Returns the help of a node, as it opens from the bar over the selected node."""
        self.page.evaluate(_SELECT, kind)
        button = self.page.locator(".selection-toolbox [data-testid=info-button]")
        button.or_(self.page.locator(".selection-toolbox .help-button")).first.click()
        shown = self.page.locator(".node-help-content, .markdown-content:visible").first
        shown.locator("h2").first.wait_for()
        return shown.inner_text()
