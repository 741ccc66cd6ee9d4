"""The panel: one component for each field of `LayerSettings`, in its order.

Shared by every page that has one. The pages' versions of gradio differ, so what differs there is
handed in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields
from enum import Enum
from functools import partial
from typing import Any

import gradio as gr

from .images import ResizeMode
from .infotext import from_infotext
from .masks import MaskSource
from .methods import METHODS, Layer, LayerMethod, find_method
from .settings import LayerSettings

_FIELDS = {f.name: f for f in fields(LayerSettings)}


@dataclass(frozen=True)
class Panel:
    """What a built panel hands to its page.

    Attributes:
        components: One for each field, in the fields' order.
        infotext_fields: Components with their infotext key or how to read it.
    """

    components: list[Any]
    infotext_fields: list[tuple[Any, Any]]

    def component(self, name: str) -> Any:
        """Returns the component of a field."""
        return self.components[list(_FIELDS).index(name)]


def build(
    enabled: AbstractContextManager[Any],
    elem_id: Callable[[str], str],
    picture_options: Mapping[str, Any],
    outputs: Sequence[str] = ("show_preview", "show_matte"),
    *,
    init_pictures: bool = False,
) -> Panel:
    """Returns a new panel with every field at its default.

    Args:
        enabled: What surrounds the panel; entering it gives the component of `enabled`.
        elem_id: Makes a component's id from its field's name.
        picture_options: How this gradio's picture slots are told to take uploads.
        outputs: The `show_…` fields that the page gives; the others stay hidden.
        init_pictures: Whether the page has init pictures.
    """
    default = LayerSettings()
    made: dict[str, Any] = {}

    def add(name: str, kind: Callable[..., Any], **more: Any) -> None:
        label = _FIELDS[name].metadata["label"]
        made[name] = kind(label=label, elem_id=elem_id(name), **more)

    with enabled as made["enabled"]:
        labels = [m.label for m in METHODS]
        add("method", gr.Dropdown, choices=labels, value=default.method.label)
        with gr.Row():
            for layer in Layer:
                add(
                    f"{layer.value}_image",
                    gr.Image,
                    type="pil",
                    image_mode="RGBA",
                    visible=layer in default.method.inputs,
                    **picture_options,
                )
        modes = [m.value for m in ResizeMode]
        add("resize_mode", gr.Radio, choices=modes, value=default.resize_mode.value, visible=False)
        with gr.Row():
            for name in ("strength", "stop_at"):
                low, high = _FIELDS[name].metadata["bounds"]
                value = getattr(default, name)
                add(name, gr.Slider, minimum=low, maximum=high, step=0.001, value=value)
        for layer in Layer:
            with gr.Row():
                for name in (f"{layer.value}_prompt", f"{layer.value}_negative_prompt"):
                    add(name, gr.Textbox, value="", lines=1, visible=False)
        with gr.Row():
            for name in (name for name in _FIELDS if name.startswith("show_")):
                add(name, gr.Checkbox, value=False, visible=name in outputs)
        add("output_origin", gr.Checkbox, value=False, visible=False)
        sources, source = [s.value for s in MaskSource], default.mask_source.value
        add("mask_source", gr.Radio, choices=sources, value=source, visible=init_pictures)

    by_method = [name for name in _FIELDS if _shown_by_method(name)]
    made["method"].change(
        partial(_visibilities, by_method),
        inputs=[made["method"]],
        outputs=[made[name] for name in by_method],
        show_progress="hidden",
        queue=False,
    )
    components = [made[name] for name in _FIELDS]
    return Panel(components, [(made[name], partial(_pasted, name)) for name in _pastable()])


def _shown_by_method(name: str) -> bool:
    return name == "resize_mode" or name.endswith(("_image", "_prompt"))


def _visibilities(names: list[str], label: str) -> list[Any]:
    method = find_method(label)

    def visible(name: str) -> bool:
        if name == "resize_mode":
            return method.needs_resize
        layers = method.inputs if name.endswith("_image") else method.layer_prompts
        return Layer(name.partition("_")[0]) in layers

    return [gr.update(visible=visible(name)) for name in names]


def _pastable() -> list[str]:
    return [
        name
        for name, field in _FIELDS.items()
        if field.metadata["infotext"] and not field.metadata.get("picture")
    ]


def _pasted(name: str, params: dict[str, str]) -> Any:
    """Returns a component's value from parsed infotext, or None to leave it as it is."""
    value = from_infotext(params).get(name)
    if isinstance(value, LayerMethod):
        return value.label
    return value.value if isinstance(value, Enum) else value
