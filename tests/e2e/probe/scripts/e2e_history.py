"""A tab that shows an image and sends it to others, as extensions with histories have one.

Its slot is made as theirs are: the host's default for one that takes colours alone.
"""

from __future__ import annotations

from typing import Any

import gradio as gr
from modules import infotext_utils, script_callbacks


def add_tab() -> list[tuple[Any, str, str]]:
    """Returns the tab."""
    with gr.Blocks(analytics_enabled=False) as tab:
        image = gr.Image(type="pil", elem_id="e2e_history_image")
        text = gr.Textbox(elem_id="e2e_history_text")
        for name in ("img2img", "inpaint", "extras"):
            button = gr.Button(f"Send to {name}", elem_id=f"e2e_history_to_{name}")
            binding = infotext_utils.ParamBinding(
                paste_button=button,
                tabname=name,
                source_text_component=text,
                source_image_component=image,
            )
            infotext_utils.register_paste_params_button(binding)
    return [(tab, "E2E history", "e2e_history")]


script_callbacks.on_ui_tabs(add_tab)
