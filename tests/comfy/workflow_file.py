"""A workflow's file, made of what a server says of its nodes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import widgets

_WIDTH, _WIDER, _GAP = 300, 490, 70  # In the page's units, in which a socket is 20 high.
_EDGE, _SOCKET, _WIDGET, _TEXT, _IMAGE = 16, 20, 24, 110, 330
_VIEW = {"offset": [120, 190]}


class Workflow:
    """A graph, as the page saves it.

    Args:
        known: What the server says of each kind of node.
    """

    def __init__(self, known: Mapping[str, Any]) -> None:
        self._known = known
        self._nodes: list[dict[str, Any]] = []
        self._links: list[list[Any]] = []
        self._columns: list[list[dict[str, Any]]] = []

    def add(self, kind: str, title: str = "", /, **given: Any) -> dict[str, Any]:
        """Returns a new node.

        Args:
            kind: Its id.
            title: What stands on it, empty for its name.
            given: Values of widgets, and `(node, output)` for what is connected.
        """
        about = self._known[kind]
        made: dict[str, Any] = {"id": len(self._nodes) + 1, "type": kind, "flags": {}, "mode": 0}
        self._nodes.append(made)
        inputs: list[Any] = []
        values: list[Any] = []
        for name, spec in widgets.inputs(about["input"]):
            if widgets.is_widget(spec):
                values += [given.pop(name, _default(spec)), *widgets.extras(spec)]
                continue
            inputs.append({"name": name, "type": spec[0], "link": None})
            if name in given:
                inputs[-1]["link"] = self._link(*given.pop(name), made, len(inputs) - 1)
        assert not given, f"{kind} has no {', '.join(given)}"
        outputs = zip(about["output"], about["output_name"], strict=True)
        made["inputs"], made["widgets_values"] = inputs, values
        made["outputs"] = [
            {"name": name, "type": type_, "links": [], "slot_index": slot}
            for slot, (type_, name) in enumerate(outputs)
        ]
        made["properties"] = {"Node name for S&R": kind}
        made["order"] = len(self._nodes) - 1
        if title:
            made["title"] = title
        self._place(made)
        return made

    def _link(self, source: dict[str, Any], output: int, target: dict[str, Any], slot: int) -> int:
        number = len(self._links) + 1
        out = source["outputs"][output]
        out["links"].append(number)
        self._links.append([number, source["id"], output, target["id"], slot, out["type"]])
        return number

    def _place(self, made: dict[str, Any]) -> None:
        """Puts a node right of all that it is connected to, below what stands there."""
        sources = {link[1] for link in self._links if link[3] == made["id"]}
        before = [
            n for n, nodes in enumerate(self._columns) for one in nodes if one["id"] in sources
        ]
        column = 1 + max(before, default=-1)
        self._columns += [[] for _ in range(column + 1 - len(self._columns))]
        self._columns[column].append(made)
        sockets = max(len(made["inputs"]), len(made["outputs"]))
        values = made["widgets_values"]
        height = _EDGE + _SOCKET * sockets + _WIDGET * len(values)
        height += sum(_TEXT for value in values if _is_text(made["type"], value))
        if made["type"] in ("SaveImage", "LoadImage"):
            height = max(height, _IMAGE)
        made["size"] = [_WIDER if any(map(_is_long, values)) else _WIDTH, height]

    def saved(self) -> dict[str, Any]:
        """Returns the workflow for a file."""
        left = 0
        for nodes in self._columns:
            top = 0
            for node in nodes:
                node["pos"] = [left, top]
                top += node["size"][1] + _GAP
            left += max(node["size"][0] for node in nodes) + _GAP
        return {
            "last_node_id": len(self._nodes),
            "last_link_id": len(self._links),
            "nodes": self._nodes,
            "links": self._links,
            "groups": [],
            "config": {},
            "extra": {"ds": _VIEW | {"scale": round(max(0.65, min(0.8, 1600 / left)), 2)}},
            "version": 0.4,
        }


def _default(spec: Any) -> Any:
    type_, more = spec[0], spec[1] if len(spec) > 1 else {}
    options = type_ if isinstance(type_, list) else more.get("options")
    if options is not None:
        return more.get("default", options[0] if options else "")
    return more.get("default", {"STRING": "", "BOOLEAN": False}.get(type_, 0))


def _is_text(kind: str, value: Any) -> bool:
    return kind == "CLIPTextEncode" and isinstance(value, str)


def _is_long(value: Any) -> bool:
    """Whether a widget needs more room for a choice, such as a method's name."""
    return isinstance(value, str) and value.startswith("(SD")
