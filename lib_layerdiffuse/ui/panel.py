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
from pathlib import Path
from typing import Any

import gradio as gr

from ..imaging.images import ResizeMode
from ..imaging.masks import MaskSource
from ..methods import METHODS, Arch, Layer, LayerMethod
from ..settings.infotext import from_infotext
from ..settings.layer_settings import LayerSettings
from .following import CHANGED, FIRST, SHOWS, Following, acts, switched, updates, why_off

CSS = Path(__file__).with_name("panel.css").read_text(encoding="utf-8")

_FIELDS = {f.name: f for f in fields(LayerSettings)}
_MAIN = {"prompt": "main prompt", "negative_prompt": "negative prompt"}
_OF_LAYER = {Layer.FG: "foreground", Layer.BG: "background", Layer.BLENDED: "blend"}
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
        chosen: Whether somebody has chosen the method. Until then it is that of the checkpoint's
            family. What changes the method changes this too.
    """

    components: list[Any]
    infotext_fields: list[tuple[Any, Any]]
    status: Any
    switch: Any
    chosen: Any

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
        shows = [self.component(name) for name in SHOWS]
        inputs = [method, checkpoint, *counts, *shows, chain]
        says = [self.status, self.switch]
        following = Following(arch_of, always, len(counts))
        for component in (method, *counts, *shows, chain):
            component.change(following.status, inputs=inputs, outputs=says, **_QUIET)
        for event in (checkpoint.change, page.load):
            known, changed = [self.chosen, *inputs], [method, *says]
            event(following.begin, inputs=known, outputs=changed, **_QUIET)
        changed = [self.component(name) for name in CHANGED]  # The user's defaults may be others.
        page.load(updates, inputs=[method, chain], outputs=changed, **_QUIET)


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
        add("method", gr.Dropdown, choices=labels, value=FIRST.label)
        with gr.Row(elem_classes=["layerdiffuse-status"]):
            status = gr.HTML("", elem_id=elem_id("status"))
            hidden = {"visible": False, "elem_id": elem_id("switch")}
            switch = gr.Button("Switch", size="sm", scale=0, **hidden)
        chosen = gr.Checkbox(False, visible=False)
        _add_steady(add)
        sources = {"choices": [s.value for s in MaskSource], "value": _DEFAULT.mask_source.value}
        add("mask_source", gr.Radio, visible=init_images, **sources)
        _add_changing(add, image_options)
    method = made["method"]
    outputs_of_method = [made[name] for name in CHANGED]
    for cause in (method, made["chain"]):
        inputs = [method, made["chain"]]
        cause.change(updates, inputs=inputs, outputs=outputs_of_method, **_QUIET)
    method.input(lambda: True, inputs=[], outputs=[chosen], **_QUIET)
    switch.click(switched, inputs=[method], outputs=[method, chosen], **_QUIET)
    components = [made[name] for name in _FIELDS]
    pasted = [(made[name], partial(_pasted, name)) for name in _pastable()]
    return Panel(components, [*pasted, (chosen, _is_chosen)], status, switch, chosen)


def _add_steady(add: Callable[..., None]) -> None:
    """Adds what every method has."""
    with gr.Row():
        for name in ("strength", "stop_at"):
            low, high = _FIELDS[name].metadata["bounds"]
            value = getattr(_DEFAULT, name)
            add(name, gr.Slider, minimum=low, maximum=high, step=0.001, value=value)
    gr.HTML("<span>Also give</span>", elem_classes=["layerdiffuse-caption"])
    with gr.Row(elem_classes=["layerdiffuse-outputs"]):
        for name in SHOWS:
            able = {"interactive": acts(FIRST, name), "info": why_off(FIRST, name)}
            add(name, gr.Checkbox, value=False, min_width=100, **able)


def _add_changing(add: Callable[..., None], image_options: Mapping[str, Any]) -> None:
    """Adds what only some methods have, hidden where the first method has none."""

    def shown(name: str) -> dict[str, bool]:
        return {"visible": acts(FIRST, name)}

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
            for kind, main in _MAIN.items():
                name = f"{layer.value}_{kind}"
                told = f"Added before the {main}, for the {_OF_LAYER[layer]} only"
                add(name, gr.Textbox, value="", lines=1, info=told, **shown(name))
    add("output_origin", gr.Checkbox, value=False, visible=False)


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


def _is_chosen(params: dict[str, str]) -> bool | None:
    """Returns True where parsed infotext chooses a method, else None: then all stays as it is."""
    return True if "method" in from_infotext(params) else None
