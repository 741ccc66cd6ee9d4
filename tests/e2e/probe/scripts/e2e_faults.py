"""Test-only WebUI extension: makes one place of a job fail.

Arguments of the always-on script "E2E Faults":
    0. where: "" nowhere, one of `PLACES`, or "hook:", a title of the extension's scripts, ":" and
       one of that script's hooks, which then fails inside its own guard
    1. how many uses of that place are left alone first
    2. what it raises: "error", "memory" or "disk", which is full; with "interrupt" it does what it
       does, and the user interrupts the job meanwhile
    3. how many uses of that place fail, by default 1

``GET /e2e/faults`` lists the places.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable
from types import CellType
from typing import Any

import gradio as gr
import torch
from modules import images, processing, script_callbacks, scripts, shared
from webui_model import first_of, memory_manager, unet_wrapper, vae

PATCHERS = ("backend.patcher.base", "ldm_patched.modules.model_patcher")
OF_A_PATCHER = ("patcher.add", "patcher.merge", "memory")
"""Places that are only where the WebUI puts weights on its UNet by a patcher."""


def _merging() -> tuple[Any, str]:
    """Returns what merges a patch into a weight, and its name there."""
    patcher = first_of(*PATCHERS)
    for owner in (patcher, first_of("backend.patcher.lora", "ldm_patched.modules.lora")):
        for name in ("merge_lora_to_weight", "calculate_weight"):
            if hasattr(owner, name):
                return owner, name
    return patcher.ModelPatcher, "calculate_weight"


def _applying() -> tuple[Any, str]:
    """Returns what applies the UNet to the rows of a step, and its name there."""
    wrapper = unet_wrapper()
    return wrapper, "apply_model" if hasattr(wrapper, "apply_model") else "forward"


def _loading() -> tuple[Any, str]:
    """Returns what brings networks to the device, and its name there."""
    manager = memory_manager()
    assert manager is not None, "this WebUI's networks move by themselves"
    return manager, "load_models_gpu"


def _network(name: str) -> type:
    """Returns a class of the extension under test, which is loaded by now."""
    module, _, kind = name.rpartition(".")
    return getattr(sys.modules[f"lib_layerdiffuse.{module}"], kind)


PLACES: dict[str, Callable[[], tuple[Any, str]]] = {
    "vae.decode": lambda: (vae(), "decode"),
    "vae.encode": lambda: (vae().encoder, "forward"),
    "patcher.add": lambda: (first_of(*PATCHERS).ModelPatcher, "add_patches"),
    "patcher.merge": _merging,
    "memory": _loading,
    "unet": _applying,
    "decoder": lambda: (_network("nets.unet1024.UNet1024"), "forward"),
    "strips": lambda: (_network("nets.unet1024.UNet1024"), "by_strips"),
    "encoder": lambda: (_network("nets.offset_encoder.OffsetEncoder"), "forward"),
    "control": lambda: (_network("nets.control_encoder.ControlEncoder"), "forward"),
    "weights": lambda: (_network("pipeline.Session"), "weights"),
    "naming": lambda: (_network("webui.job.job.Job"), "suffix"),
    "sharing": lambda: (_network("nets.attention_sharing.SharedAttention"), "forward"),
    "grid": lambda: (sys.modules["lib_layerdiffuse.webui.flows.grids"], "_on_checkerboard"),
    "save": lambda: (images, "save_image"),
    "write": lambda: (images, "save_image_with_geninfo"),
    "conds": lambda: (processing.StableDiffusionProcessing, "setup_conds"),
}


def _hook(title: str, name: str) -> tuple[Any, str]:
    """Returns what a hook wraps, or what it calls where nothing wraps it."""
    runners = scripts.scripts_txt2img, scripts.scripts_img2img
    found = [one for runner in runners for one in runner.alwayson_scripts if one.title() == title]
    kind = type(found[0])
    hook = getattr(kind, name)
    free = hook.__code__.co_freevars
    if "method" in free:
        return hook.__closure__[free.index("method")], "cell_contents"
    return (kind if hasattr(kind, "_begin") else sys.modules[kind.__module__]), "_begin"


class Fault:
    """One place that fails."""

    def __init__(self, owner: Any, name: str, after: int, kind: str, times: int) -> None:
        """Puts the fault in."""
        self.owner, self.name, self.after, self.kind = owner, name, after, kind
        self.times = times
        self.had = isinstance(owner, CellType) or name in vars(owner)
        self.inner = getattr(owner, name)

        def act(*args: Any, **kwargs: Any) -> Any:
            return self.act(*args, **kwargs)

        setattr(owner, name, act)

    def act(self, *args: Any, **kwargs: Any) -> Any:
        """Fails, or does what stood here."""
        if self.after > 0:
            self.after -= 1
            return self.inner(*args, **kwargs)
        self.times -= 1
        if not self.times:
            self.remove()
        if self.kind == "interrupt":
            shared.state.interrupt()
            return self.inner(*args, **kwargs)
        if self.kind == "memory":
            raise torch.cuda.OutOfMemoryError("E2E probe: out of memory asked for")
        if self.kind == "disk":
            raise OSError(errno.ENOSPC, "No space left on device")
        raise RuntimeError("E2E probe: fault asked for")

    def remove(self) -> None:
        """Takes the fault out."""
        if self.had:
            setattr(self.owner, self.name, self.inner)
        elif self.name in vars(self.owner):
            delattr(self.owner, self.name)


class E2EFaults(scripts.Script):
    """The always-on script."""

    fault: Fault | None = None

    def title(self) -> str:
        """Names the script for the API."""
        return "E2E Faults"

    def show(self, is_img2img: bool) -> Any:
        """Runs on every job of both tabs."""
        return scripts.AlwaysVisible

    def ui(self, is_img2img: bool) -> list[Any]:
        """Declares the arguments."""
        return [
            gr.Textbox(label="Place", value="", visible=False),
            gr.Number(label="Uses before", value=0, visible=False),
            gr.Textbox(label="Kind of fault", value="error", visible=False),
            gr.Number(label="Uses that fail", value=1, visible=False),
        ]

    def before_process(
        self,
        p: Any,
        place: str | None = "",
        after: int = 0,
        kind: str = "error",
        times: int = 1,
        *args: Any,
    ) -> None:
        """Takes a fault out that an earlier job did not meet, and puts one into a hook."""
        if E2EFaults.fault is not None:
            E2EFaults.fault.remove()
            E2EFaults.fault = None
        if place and place.startswith("hook:"):
            _, title, hook = place.split(":")
            E2EFaults.fault = Fault(*_hook(title, hook), int(after), kind, int(times))

    def process(
        self,
        p: Any,
        place: str | None = "",
        after: int = 0,
        kind: str = "error",
        times: int = 1,
        *args: Any,
    ) -> None:
        """Puts a fault into the host, which has loaded the checkpoint by now."""
        if place and not place.startswith("hook:"):
            E2EFaults.fault = Fault(*PLACES[place](), int(after), kind, int(times))


def add_routes(demo: Any, app: Any) -> None:
    """Adds the list of places."""

    @app.get("/e2e/faults")
    def faults() -> list[str]:
        return [name for name in PLACES if memory_manager() or name not in OF_A_PATCHER]


script_callbacks.on_app_started(add_routes)
