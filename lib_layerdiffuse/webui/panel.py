"""The panel in the WebUI: inside its accordion with a tick box."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields

import gradio as gr
from modules.ui_components import InputAccordion

from ..panel import Panel
from ..panel import build as build_panel
from ..settings import LayerSettings


def notice(title: str, text: str) -> None:
    """Shows why the extension is off."""
    with gr.Accordion(title, open=True):
        gr.Markdown(text)


def build(title: str, elem_id: Callable[[str], str], *, is_img2img: bool) -> Panel:
    """Returns a new panel with every field at its default."""
    accordion = InputAccordion(False, label=title, elem_id=elem_id("enabled"))
    outputs = [f.name for f in fields(LayerSettings) if f.name.startswith("show_")]
    return build_panel(accordion, elem_id, {"source": "upload"}, outputs, init_pictures=is_img2img)
