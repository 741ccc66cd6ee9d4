"""Which of a node's inputs are widgets, in the order in which workflows keep their values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}


def inputs(of: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Returns a kind's inputs in their order, by what ComfyUI says of them."""
    kinds = [kind for kind in ("required", "optional") if kind in of]
    return [(name, spec) for kind in kinds for name, spec in of[kind].items()]


def is_widget(spec: Any) -> bool:
    """Whether an input is a widget, and no socket alone."""
    return isinstance(spec[0], list) or spec[0] in _WIDGETS


def extras(spec: Any) -> list[str]:
    """Returns the values of what the page puts behind a widget by itself."""
    more = spec[1] if len(spec) > 1 else {}
    found = {"control_after_generate": "fixed", "image_upload": "image"}
    return [value for name, value in found.items() if more.get(name)]


def prompt_of(
    nodes: list[list[Any]], known: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Returns a workflow as `/prompt` takes it.

    Args:
        nodes: Id, class, the values of widgets in their order, and what is connected, each.
        known: What ComfyUI says of a class's inputs.
    """
    prompt = {}
    for node, kind, values, connected in nodes:
        places = list(_places(known[kind]))
        assert len(values) <= len(places), kind
        named = dict(zip(places, values, strict=False))
        named = {name: value for name, value in named.items() if not name.startswith("after ")}
        sources = {name: [str(source), output] for name, (source, output) in connected.items()}
        prompt[str(node)] = {"class_type": kind, "inputs": named | sources}
    return prompt


def _places(of: Mapping[str, Any]) -> Iterator[str]:
    for name, spec in inputs(of):
        if is_widget(spec):
            yield name
            yield from (f"after {name}, {extra}" for extra in extras(spec))
