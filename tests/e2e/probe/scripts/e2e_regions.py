"""Test-only WebUI extension: gives each prompt that AND composes a region of its own.

Argument of the always-on script "E2E Regions":
    0. how: "" not at all, "mask" the first prompt's result on the left and the second's on the
       right, or "area": call the UNet for the left and the right half alone
"""

from __future__ import annotations

from typing import Any

import gradio as gr
import torch
from modules import scripts


class E2ERegions(scripts.Script):
    """The always-on script."""

    def title(self) -> str:
        """Names the script for the API."""
        return "E2E Regions"

    def show(self, is_img2img: bool) -> Any:
        """Runs on every job of both tabs."""
        return scripts.AlwaysVisible

    def ui(self, is_img2img: bool) -> list[Any]:
        """Declares the argument."""
        return [gr.Textbox(label="Kind of region", value="", visible=False)]

    def process_before_every_sampling(
        self, p: Any, kind: str | None = "", *args: Any, **kwargs: Any
    ) -> None:
        """Puts regions on the conditions that the host composes."""
        if not kind:
            return

        def modify(model: Any, x: torch.Tensor, timestep: Any, uncond: Any, cond: Any, *rest: Any):
            height, width = x.shape[2:]
            for i, one in enumerate(cond):
                left = i * width // len(cond)
                right = (i + 1) * width // len(cond)
                if kind == "area":
                    one["area"] = (height, right - left, 0, left)
                else:
                    one["mask"] = torch.zeros(1, height, width)
                    one["mask"][:, :, left:right] = 1
            return model, x, timestep, uncond, cond, *rest

        unet = p.sd_model.forge_objects.unet.clone()
        unet.add_conditioning_modifier(modify)
        p.sd_model.forge_objects.unet = unet
