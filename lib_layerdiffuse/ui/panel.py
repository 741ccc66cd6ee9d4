"""The panel: one component for each field of `LayerSettings`, in its order.

Shared by every page that has one. The pages' versions of gradio differ, so what differs there is
handed in. What a method changes stands below what it does not, so that nothing moves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields
from enum import Enum
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from ..imaging.images import ResizeMode
from ..imaging.masks import MaskSource
from ..methods import METHODS, Arch, Layer, LayerMethod, find_method
from ..settings.chains import begins_chain, prompted_layers, steps
from ..settings.guide import family_first, mismatch, outcome, sibling
from ..settings.infotext import from_infotext
from ..settings.layer_settings import LayerSettings

CSS = Path(__file__).with_name("panel.css").read_text(encoding="utf-8")

_FIELDS = {f.name: f for f in fields(LayerSettings)}
_SHOWS = [name for name in _FIELDS if name.startswith("show_")]
_CHANGED = [
    *(n for n in _FIELDS if n in ("resize_mode", "chain") or n.endswith(("_image", "_prompt"))),
    *_SHOWS,
]
_HINTS = {
    "prompt": "before the main prompt",
    "negative_prompt": "before the negative prompt",
}
_DEFAULT = LayerSettings()
_QUIET: dict[str, Any] = {"show_progress": "hidden", "queue": False}


@dataclass(frozen=True)
class Panel:
    """What a built panel hands to its page.

    Attributes:
        components: One for each field, in the fields' order.
        infotext_fields: Components with their infotext key or how to read it.
        status: Says what comes out, and what speaks against the method.
        switch: The button that chooses the method's sibling.
    """

    components: list[Any]
    infotext_fields: list[tuple[Any, Any]]
    status: Any
    switch: Any

    def component(self, name: str) -> Any:
        """Returns the component of a field."""
        return self.components[list(_FIELDS).index(name)]

    def connect(
        self,
        page: Any,
        checkpoint: Any,
        arch_of: Callable[[Any], Arch | None],
        counts: Sequence[Any],
        always: Callable[[], frozenset[str]] = frozenset,
    ) -> None:
        """Makes the panel follow what stands elsewhere on the page; call it inside the page.

        Args:
            page: The page's `gr.Blocks`.
            checkpoint: The component that says which checkpoint is chosen.
            arch_of: Returns the family of the checkpoint that this component names.
            counts: Components whose product is the number of sets.
            always: Returns the `show_…` fields that are on whatever the panel says.
        """
        method, chain = self.component("method"), self.component("chain")
        shows = [self.component(name) for name in _SHOWS]
        inputs = [method, checkpoint, *counts, *shows, chain]
        outputs = [self.status, self.switch]
        say = partial(_status, arch_of, always, len(counts))
        order = partial(_ordered, arch_of)
        for component in inputs:
            component.change(say, inputs=inputs, outputs=outputs, **_QUIET)
        checkpoint.change(order, inputs=[checkpoint], outputs=[method], **_QUIET)
        page.load(say, inputs=inputs, outputs=outputs, **_QUIET)
        page.load(order, inputs=[checkpoint], outputs=[method], **_QUIET)
        changed = [self.component(name) for name in _CHANGED]  # The user's defaults may be others.
        page.load(_updates, inputs=[method, chain], outputs=changed, **_QUIET)


def build(
    enabled: AbstractContextManager[Any],
    elem_id: Callable[[str], str],
    image_options: Mapping[str, Any],
    *,
    init_images: bool = False,
) -> Panel:
    """Returns a new panel with every field at its default.

    Args:
        enabled: What surrounds the panel; entering it gives the component of `enabled`.
        elem_id: Makes a component's id from its field's name.
        image_options: How this gradio's image slots are told to take uploads.
        init_images: Whether the page has init images.
    """
    made: dict[str, Any] = {}

    def add(name: str, kind: Callable[..., Any], **more: Any) -> None:
        label = _FIELDS[name].metadata["label"]
        made[name] = kind(label=label, elem_id=elem_id(name), **more)

    with enabled as made["enabled"]:
        labels = [m.label for m in METHODS]
        add("method", gr.Dropdown, choices=labels, value=_DEFAULT.method.label)
        with gr.Row(elem_classes=["layerdiffuse-status"]):
            status = gr.HTML("", elem_id=elem_id("status"))
            hidden = {"visible": False, "elem_id": elem_id("switch")}
            switch = gr.Button("Switch", size="sm", scale=0, **hidden)
        _add_steady(add)
        sources = {"choices": [s.value for s in MaskSource], "value": _DEFAULT.mask_source.value}
        add("mask_source", gr.Radio, visible=init_images, **sources)
        _add_changing(add, image_options)
    method = made["method"]
    outputs_of_method = [made[name] for name in _CHANGED]
    for cause in (method, made["chain"]):
        inputs = [method, made["chain"]]
        cause.change(_updates, inputs=inputs, outputs=outputs_of_method, **_QUIET)
    switch.click(_sibling, inputs=[method], outputs=[method], **_QUIET)
    components = [made[name] for name in _FIELDS]
    pasted = [(made[name], partial(_pasted, name)) for name in _pastable()]
    return Panel(components, pasted, status, switch)


def _add_steady(add: Callable[..., None]) -> None:
    """Adds what every method has."""
    with gr.Row():
        for name in ("strength", "stop_at"):
            low, high = _FIELDS[name].metadata["bounds"]
            value = getattr(_DEFAULT, name)
            add(name, gr.Slider, minimum=low, maximum=high, step=0.001, value=value)
    gr.HTML("<span>Also give</span>", elem_classes=["layerdiffuse-caption"])
    with gr.Row(elem_classes=["layerdiffuse-outputs"]):
        for name in _SHOWS:
            can = _acts(_DEFAULT.method, name)
            add(name, gr.Checkbox, value=False, min_width=100, interactive=can)


def _add_changing(add: Callable[..., None], image_options: Mapping[str, Any]) -> None:
    """Adds what only some methods have, hidden where the first method has none."""

    def shown(name: str) -> dict[str, bool]:
        return {"visible": _acts(_DEFAULT.method, name)}

    image = {"type": "pil", "image_mode": "RGBA", "height": 240, **image_options}
    with gr.Row(elem_classes=["layerdiffuse-changing"]):
        for layer in Layer:
            name = f"{layer.value}_image"
            add(name, gr.Image, elem_classes=["layerdiffuse-slot"], **image, **shown(name))
    modes = {"choices": [m.value for m in ResizeMode], "value": _DEFAULT.resize_mode.value}
    add("resize_mode", gr.Radio, **modes, **shown("resize_mode"))
    add("chain", gr.Checkbox, value=False, **shown("chain"))
    for layer in Layer:
        with gr.Row(elem_classes=["layerdiffuse-changing"]):
            for kind, hint in _HINTS.items():
                name = f"{layer.value}_{kind}"
                add(name, gr.Textbox, value="", lines=1, placeholder=hint, **shown(name))
    add("output_origin", gr.Checkbox, value=False, visible=False)


# What follows the method


def _acts(method: LayerMethod, name: str, chain: bool = False) -> bool:
    """Whether a field does something with a method, or with the chain that it begins."""
    if name == "resize_mode":
        return method.needs_resize
    if name == "chain":
        return begins_chain(method)
    if name in _SHOWS:
        run = steps(method, chain)
        return any(one.composes if name == "show_composite" else one.decodes for one in run)
    layers = method.inputs if name.endswith("_image") else prompted_layers(method, chain)
    return Layer(name.partition("_")[0]) in layers


def _updates(label: str, chain: bool = False) -> list[Any]:
    """Returns what changes with the method: inputs are hidden, outputs switched off in place."""
    method = find_method(label)

    def change(name: str) -> Any:
        acts = _acts(method, name, chain)
        if name == "chain" and not acts:
            return gr.update(visible=False, value=False)  # A tick that nobody sees must not count.
        return gr.update(**{"interactive" if name in _SHOWS else "visible": acts})

    return [change(name) for name in _CHANGED]


def _sibling(label: str) -> Any:
    method = find_method(label)
    return gr.update(value=(sibling(method) or method).label)


# What follows the page


def _ordered(arch_of: Callable[[Any], Arch | None], checkpoint: Any) -> Any:
    return gr.update(choices=[method.label for method in family_first(arch_of(checkpoint))])


def _status(
    arch_of: Callable[[Any], Arch | None],
    always: Callable[[], frozenset[str]],
    counted: int,
    label: str,
    checkpoint: Any,
    *values: Any,
) -> tuple[str, Any]:
    """Returns the status as HTML, and what becomes of the button below it."""
    method, loaded = find_method(label), arch_of(checkpoint)
    sets = 1
    for value in values[:counted]:
        sets *= int(value or 1)
    *ticks, chain = values[counted:]
    asked = always().union(name for name, on in zip(_SHOWS, ticks, strict=True) if on)
    extras = sum(_acts(method, name, chain) for name in asked)
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


# What is pasted


def _pastable() -> list[str]:
    return [
        name
        for name, field in _FIELDS.items()
        if field.metadata["infotext"] and not field.metadata.get("image")
    ]


def _pasted(name: str, params: dict[str, str]) -> Any:
    """Returns a component's value from parsed infotext, or None to leave it as it is."""
    value = from_infotext(params).get(name)
    if isinstance(value, LayerMethod):
        return value.label
    return value.value if isinstance(value, Enum) else value
