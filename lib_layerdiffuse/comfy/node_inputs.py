"""Inputs that several nodes have."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..methods import METHODS, Arch, Layer


def method_input() -> Any:
    """Returns the choice of a method."""
    about = "Which layers are made, of what. Its family has to be that of the checkpoint."
    labels = [method.label for method in METHODS]
    return io.Combo.Input("method", options=labels, default=METHODS[4].label, tooltip=about)


def weight_input(**more: Any) -> Any:
    """Returns the strength of a method."""
    about = "Scales what the method does to the model; 0 leaves the plain one."
    bounds = {"default": 1.0, "min": -1.0, "max": 3.0, "step": 0.05}
    return io.Float.Input("weight", **bounds, tooltip=about, **more)


def stop_at_input(**more: Any) -> Any:
    """Returns the part of the schedule that a method acts in."""
    about = "The method acts during this first part of the schedule, by sigma."
    bounds = {"default": 1.0, "min": 0.0, "max": 1.0, "step": 0.01}
    return io.Float.Input("stop_at", **bounds, tooltip=about, **more)


def mask_input(of: str = "the same image") -> Any:
    """Returns the alpha of an image beside it, as Load Image gives it."""
    return io.Mask.Input("mask", optional=True, tooltip=f"Load Image's, of {of}.")


def layer_prompt_input(layer: Layer) -> Any:
    """Returns a layer's own conditioning."""
    about = f"The {called(layer)}'s own prompt, where the method makes several layers."
    return io.Conditioning.Input(f"{layer.value}_cond", optional=True, tooltip=about)


def views_input(**more: Any) -> Any:
    """Returns how many views the decoder takes."""
    about = "How many turned and mirrored views are taken: 8 is best, fewer faster, 0 adaptive."
    return io.Int.Input("views", default=8, min=0, max=8, tooltip=about, **more)


def family_input() -> Any:
    """Returns the choice of a checkpoint's family."""
    families = [arch.value for arch in Arch]
    about = "The checkpoint's family."
    return io.Combo.Input("family", options=families, default=Arch.SDXL.value, tooltip=about)


def called(layer: Layer) -> str:
    """Returns what a layer is called within a sentence."""
    return "blended image" if layer is Layer.BLENDED else layer.label.lower()
