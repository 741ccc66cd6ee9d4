"""The page's field for the checkpoint."""

from __future__ import annotations

import gradio as gr

from .checkpoints import Checkpoints


def checkpoint_field(checkpoints: Checkpoints) -> gr.Dropdown | gr.Textbox:
    """Returns a list of those that are offered, or a field for any path."""
    about = "An SD1.5 or SDXL checkpoint"
    if checkpoints.offered is not None:
        return gr.Dropdown(
            checkpoints.choices(),
            value=checkpoints.first,
            label="Checkpoint",
            info=f"{about} of those that this studio offers.",
        )
    return gr.Textbox(
        checkpoints.first,
        label="Checkpoint",
        placeholder="Empty: the tiny family that comes with this package",
        info=f"{about}: a .safetensors file or a diffusers folder.",
    )
