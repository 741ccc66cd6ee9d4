"""The panel in the WebUI: in an accordion with a tick box, following the page around it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
from modules import sd_models, shared
from modules.ui_components import InputAccordion

from ...methods import Arch
from ...ui.panel import CSS, Panel
from ...ui.panel import build as build_panel
from ...weights.checkpoints import CheckpointReader
from ..job.choices import outputs_always_given

_TABS = ("txt2img", "img2img")
_COUNTS = ("batch_size", "batch_count")


def notice(title: str, text: str) -> gr.Checkbox:
    """Shows why the extension is off; returns an unseen switch, where programs' settings arrive."""
    with gr.Accordion(title, open=True):
        gr.Markdown(text)
        return gr.Checkbox(False, visible=False)


def build(title: str, elem_id: Callable[[str], str], *, is_img2img: bool) -> Panel:
    """Returns a new panel with every field at its default."""
    accordion = InputAccordion(False, label=title, elem_id=elem_id("enabled"))
    options = image_options()
    panel = build_panel(accordion, elem_id, options, init_images=is_img2img)
    # Not in `style.css`, which the host loads: that is no part of the package, and the studio is.
    gr.HTML(f"<style>{CSS}</style>", elem_classes=["layerdiffuse-style"])
    return panel


def image_options() -> dict[str, Any]:
    """Returns how image slots are told to take uploads, and to keep what is put into them."""
    options = inspect.signature(gr.Image.__init__).parameters
    if "sources" not in options:
        return {"source": "upload"}
    return {"sources": ["upload", "clipboard"], "format": "png"}


class Wiring:
    """Connects the panels of the page that is being built to the WebUI's own components."""

    def __init__(self) -> None:
        self._reader = CheckpointReader()
        self.start()

    def start(self) -> None:
        """Forgets the last page; the host calls this before it builds one."""
        self._panels: dict[str, Panel] = {}
        self._found: dict[str, Any] = {}
        self._connected = False

    def add(self, tab: str, panel: Panel) -> None:
        """Notes a tab's panel."""
        self._panels[tab] = panel

    def after_component(self, component: Any, **kwargs: Any) -> None:
        """Notes the components that panels follow, and connects once the page has them all.

        The host calls this while a component is being made, so that only those before it are
        whole.
        """
        if not self._connected and "checkpoint" in self._found:
            self._connected = True
            self._connect()
        name = str(kwargs.get("elem_id"))
        if name in {f"{tab}_{count}" for tab in _TABS for count in _COUNTS}:
            self._found[name] = component
        elif name == "setting_sd_model_checkpoint" or _is_forges_checkpoint(kwargs):
            self._found["checkpoint"] = component

    def _connect(self) -> None:
        for tab, panel in self._panels.items():
            names = (f"{tab}_{count}" for count in _COUNTS)
            counts = [self._found[name] for name in names if name in self._found]
            panel.connect(
                gr.context.Context.root_block,
                self._found["checkpoint"],
                self.arch_of,
                counts,
                outputs_always_given,
            )

    def arch_of(self, name: Any) -> Arch | None:
        """Returns the family of a checkpoint by its name in the WebUI; None if that is unknown.

        Without a name it is that of the checkpoint of the settings, which the WebUI draws with:
        Forge Neo shows none until its user has chosen one.
        """
        name = name or shared.opts.sd_model_checkpoint
        info = sd_models.get_closet_checkpoint_match(name) if name else None
        return None if info is None else self._reader.arch(Path(info.filename))


def _is_forges_checkpoint(kwargs: dict[str, Any]) -> bool:
    return "model_selection" in (kwargs.get("elem_classes") or ())
