"""What of the panel follows the method, the loaded checkpoint and the numbers beside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from html import escape
from typing import Any

import gradio as gr

from ..methods import Arch, Layer, LayerMethod, find_method
from ..settings.chains import begins_chain, prompted_layers, steps
from ..settings.guide import family_first, mismatch, outcome, sibling
from ..settings.layer_settings import LayerSettings

_NAMES = [field.name for field in fields(LayerSettings)]
SHOWS = [name for name in _NAMES if name.startswith("show_")]
"""The fields of what is given beside the layers."""

CHANGED = [
    *(n for n in _NAMES if n in ("resize_mode", "chain") or n.endswith(("_image", "_prompt"))),
    *SHOWS,
]
"""The fields whose components look different with another method."""

FIRST = LayerSettings().method
"""The method that stands in a new panel."""

_FIRSTS = {FIRST, sibling(FIRST)}


def acts(method: LayerMethod, name: str, chain: bool = False) -> bool:
    """Whether a field does something with a method, or with the chain that it begins."""
    if name == "resize_mode":
        return method.needs_resize
    if name == "chain":
        return begins_chain(method)
    if name in SHOWS:
        run = steps(method, chain)
        return any(one.composes if name == "show_composite" else one.decodes for one in run)
    layers = method.inputs if name.endswith("_image") else prompted_layers(method, chain)
    return Layer(name.partition("_")[0]) in layers


def why_off(method: LayerMethod, name: str, chain: bool = False) -> str:
    """Returns why an output cannot be had from a method, in a sentence; empty where it can."""
    if acts(method, name, chain):
        return ""
    if name != "show_composite":
        return "This method makes no foreground."
    there = {*method.inputs, *method.outputs}
    missing = next(layer for layer in (Layer.FG, Layer.BG) if layer not in there)
    return f"This method has no {missing.label.lower()}."


def updates(label: str, chain: bool = False) -> list[Any]:
    """Returns what changes with the method: inputs are hidden, outputs switched off in place."""
    method = find_method(label)

    def change(name: str) -> Any:
        can = acts(method, name, chain)
        if name in SHOWS:
            return gr.update(interactive=can, info=why_off(method, name, chain))
        if name == "chain" and not can:
            return gr.update(visible=False, value=False)  # A tick that nobody sees must not count.
        return gr.update(visible=can)

    return [change(name) for name in CHANGED]


def switched(label: str) -> tuple[Any, bool]:
    """Returns the method's sibling for the panel, and that it was chosen."""
    method = find_method(label)
    return gr.update(value=(sibling(method) or method).label), True


@dataclass(frozen=True)
class Following:
    """What the page around a panel tells it.

    Attributes:
        arch_of: Returns the family of the checkpoint that the page's component names.
        always: Returns the `show_…` fields that are on whatever the panel says.
        counted: How many numbers there are whose product is the number of sets.
    """

    arch_of: Callable[[Any], Arch | None]
    always: Callable[[], frozenset[str]]
    counted: int

    def begin(
        self, chosen: bool, label: str, checkpoint: Any, *values: Any
    ) -> tuple[Any, str, Any]:
        """Returns the list of methods and the status, after the checkpoint became another one.

        A method that nobody has chosen becomes that of the checkpoint's family.

        Args:
            chosen: Whether somebody has chosen the method.
            label: The method.
            checkpoint: What the page's component holds.
            values: As in `status`.
        """
        method, loaded = find_method(label), self.arch_of(checkpoint)
        change: dict[str, Any] = {"choices": [one.label for one in family_first(loaded)]}
        other = sibling(method)
        if not chosen and method in _FIRSTS and other is not None and other.arch is loaded:
            method = other
            change["value"] = other.label
        return gr.update(**change), *self._status(method, loaded, values)

    def status(self, label: str, checkpoint: Any, *values: Any) -> tuple[str, Any]:
        """Returns the status as HTML, and what becomes of the button below it.

        Args:
            label: The method.
            checkpoint: What the page's component holds.
            values: The numbers, the ticks of `SHOWS`, and that of the chain.
        """
        return self._status(find_method(label), self.arch_of(checkpoint), values)

    def _status(
        self, method: LayerMethod, loaded: Arch | None, values: Sequence[Any]
    ) -> tuple[str, Any]:
        sets = 1
        for value in values[: self.counted]:
            sets *= int(value or 1)
        *ticks, chain = values[self.counted :]
        asked = self.always().union(name for name, on in zip(SHOWS, ticks, strict=True) if on)
        extras = sum(acts(method, name, chain) for name in asked)
        layers = tuple(layer for one in steps(method, chain) for layer in one.outputs)
        against = mismatch(method, loaded)
        other = sibling(method) if against else None
        html = f'<div class="layerdiffuse-says">{_words(outcome(layers, sets, extras))}</div>'
        if against:
            html += f'<div class="layerdiffuse-against" role="alert">{_words(against)}</div>'
        text = f"Switch to the {other.arch.value} method" if other else "Switch"
        return html, gr.update(visible=other is not None, value=text)


def _words(words: Sequence[str]) -> str:
    """Returns words as HTML, each in a text node of its own, as the WebUI translates them."""
    spans = (f"<span>{escape(word)}</span>" for word in words)
    return " ".join(spans).replace(" <span>:", "<span>:").replace(" <span>,", "<span>,")
