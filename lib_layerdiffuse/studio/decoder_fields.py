"""The fields that say how the transparent decoder computes."""

from __future__ import annotations

from typing import Any

import gradio as gr

from ..codec.views import CHOICES


def decoder_fields() -> dict[str, Any]:
    """Returns the fields by their names in `Fields`, built where the caller is in the page."""
    return {
        "views": gr.Dropdown(
            list(CHOICES),
            value=CHOICES[0],
            label="Views of the transparent decoder",
            info="8 gives the best edges, 1 is eight times as fast.",
        ),
        "compiled": gr.Checkbox(
            False,
            label="Compile the transparent decoder",
            info="For many images of one size on a GPU, with the same result; on a CPU it is no "
            "faster. The first image of each size waits a minute or more.",
        ),
    }
