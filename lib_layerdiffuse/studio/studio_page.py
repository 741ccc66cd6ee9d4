"""The studio: a page in the browser that makes layers without a WebUI."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from threading import Event
from typing import Any

import gradio as gr

from ..hosts.diffusers import SAMPLERS, SamplingStopped
from ..imaging.images import ImageU8
from ..methods import Layer
from ..standalone.defaults import TINY_CFG
from ..standalone.saved import SavedImage
from ..ui.panel import CSS as PANEL_CSS
from ..ui.panel import build as build_panel
from .checkpoint_field import checkpoint_field
from .decoder_fields import decoder_fields
from .failures import shown_errors
from .workbench import (
    AUTOMATIC,
    BACKDROPS,
    PREDICTIONS,
    SIZES,
    Fields,
    Result,
    Workbench,
    composed,
)

TITLE = "LayerDiffuse Studio"
CSS = Path(__file__).with_name("studio.css").read_text(encoding="utf-8")


class Page:
    """The page's components and what they do.

    Attributes:
        blocks: The page, to launch.
    """

    def __init__(self, workbench: Workbench) -> None:
        """Builds the page.

        Args:
            workbench: What does the work; its checkpoint stands in the page's field at first.
        """
        self.workbench = workbench
        self._stops: dict[str, Event] = {}
        with gr.Blocks(title=TITLE, analytics_enabled=False, fill_width=True) as self.blocks:
            gr.Markdown(f"# {TITLE}")
            with gr.Row():
                with gr.Column(scale=5, min_width=420):
                    self._build_inputs()
                with gr.Column(scale=6, min_width=420):
                    self._build_results()
            self._connect()

    def _build_inputs(self) -> None:
        made: dict[str, Any] = {}
        made["checkpoint"] = checkpoint_field(self.workbench.checkpoints)
        made["prompt"] = gr.Textbox(
            label="Prompt", lines=2, elem_id="studio_prompt", placeholder="a blue glass ball"
        )
        made["negative_prompt"] = gr.Textbox(label="Negative prompt", lines=1)
        with gr.Row():
            self.start = gr.Button("Generate", variant="primary", elem_id="studio_generate")
            self.stop = gr.Button("Interrupt", variant="stop", elem_id="studio_interrupt")
        images = {"sources": ["upload", "clipboard"], "format": "png", "height": 220}
        self.panel = build_panel(_always_on(), "layerdiffuse_{}".format, images)
        with gr.Group():
            with gr.Row():
                made["size"] = gr.Dropdown(
                    list(SIZES), value=AUTOMATIC, label="Size", allow_custom_value=True
                )
                made["sets"] = gr.Number(1, label="Sets", precision=0, minimum=1, maximum=64)
                made["seed"] = gr.Number(-1, label="Seed", precision=0, minimum=-1)
                names = [AUTOMATIC, *SAMPLERS]
                made["sampler"] = gr.Dropdown(names, value=AUTOMATIC, label="Sampler")
            with gr.Row():
                made["steps"] = gr.Slider(1, 100, value=20, step=1, label="Steps")
                cfg = TINY_CFG if self.workbench.choice.tiny else 7
                made["cfg"] = gr.Slider(1, 20, value=cfg, step=0.5, label="CFG scale")
                at_first = self.workbench.choice.prediction
                made["prediction"] = gr.Dropdown(
                    list(PREDICTIONS),
                    value=next(name for name, it in PREDICTIONS.items() if it == at_first),
                    label="Prediction",
                    info="What the checkpoint's UNet predicts, where the file does not say it.",
                )
                made |= decoder_fields()
        with gr.Accordion("Draw over an image (img2img)", open=False):
            made["init"] = gr.Image(type="pil", image_mode="RGBA", label="Image", **images)
            made["denoise"] = gr.Slider(0, 1, value=0.75, step=0.01, label="Denoising strength")
        self.panel.connect(
            self.blocks, made["checkpoint"], self.workbench.checkpoints.arch, [made["sets"]]
        )
        self.fields = [made[field.name] for field in fields(Fields)]

    def _build_results(self) -> None:
        self.result = gr.State(None)
        self.chosen = gr.State(0)
        self.gallery = gr.Gallery(
            label="Layers",
            elem_id="studio_gallery",
            columns=3,
            height=360,
            object_fit="contain",
            interactive=False,
        )
        self.use = gr.Button("Use the chosen layer as input", size="sm", visible=False)
        self.backdrop = gr.Radio(list(BACKDROPS), value=BACKDROPS[0], label="The foreground over")
        self.colour = gr.ColorPicker("#3478c8", label="Colour", visible=False)
        self.image = gr.Image(
            type="pil",
            label="Image",
            visible=False,
            sources=["upload", "clipboard"],
            height=220,
        )
        self.composite = gr.Image(
            label="Composite",
            format="png",
            interactive=False,
            height=400,
            elem_id="studio_composite",
        )
        self.files = gr.File(label="Files", file_count="multiple", height=190, interactive=False)
        self.infotext = gr.Textbox(
            label="Infotext of the chosen layer",
            lines=4,
            interactive=False,
            buttons=["copy"],
            elem_id="studio_infotext",
        )

    def _connect(self) -> None:
        view = [self.result, self.chosen, self.backdrop, self.colour, self.image]
        shown = [self.gallery, self.files, self.result, self.chosen]
        inputs = [*self.fields, *self.panel.components]
        done = self.start.click(
            self.generate,
            inputs,
            shown,
            concurrency_limit=1,
            show_progress_on=self.gallery,
            api_name="generate",
        )
        done.success(self.look, view, [self.composite, self.infotext], show_progress="hidden")
        done.success(offer_use, self.result, self.use, show_progress="hidden")
        self.stop.click(self.interrupt, None, None, queue=False, show_progress="hidden")
        self.gallery.select(choose, None, self.chosen, show_progress="hidden").then(
            self.look, view, [self.composite, self.infotext], show_progress="hidden"
        )
        self.backdrop.change(
            show_backdrop,
            self.backdrop,
            [self.colour, self.image],
            show_progress="hidden",
        )
        for component in (self.backdrop, self.colour, self.image):
            component.change(
                self.look, view, [self.composite, self.infotext], show_progress="hidden"
            )
        slots = [self.panel.component(f"{layer.value}_image") for layer in Layer]
        self.use.click(use_as_input, [self.result, self.chosen], slots, show_progress="hidden")

    # What the page's buttons do

    def generate(
        self,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008  (how gradio is asked for one)
        *values: Any,
    ) -> tuple[Any, ...]:
        """Returns what the gallery, the files and the page's memory show after a job."""
        stop = self._stops[_visitor(request)] = Event()
        split = len(self.fields)

        def on_progress(stage: str, done: int, total: int) -> bool:
            progress((done, total), desc=stage)
            return not stop.is_set()

        with shown_errors():
            given = Fields(*values[:split])
            try:
                result = self.workbench.generate(given, values[split:], on_progress)
            except SamplingStopped:
                gr.Info("Interrupted. The layers of the last job are still there.")
                return (gr.skip(),) * 4
        for note in dict.fromkeys(one.image.note for one in result.saved if one.image.note):
            gr.Warning(note)
        paths = [str(one.path) for one in result.saved]
        return _captioned(result), paths, result, _first_fg(result)

    def interrupt(self, request: gr.Request) -> None:
        """Stops this visitor's job after the current step."""
        stop = self._stops.get(_visitor(request))
        if stop is not None:
            stop.set()

    def look(
        self, result: Result | None, index: int, backdrop: str, colour: str, image: Any
    ) -> tuple[ImageU8 | None, str]:
        """Returns the chosen set's foreground over a backdrop, and the chosen layer's infotext."""
        if result is None or not result.saved:
            return None, ""
        chosen = result.saved[min(index, len(result.saved) - 1)]
        with shown_errors():
            return composed(result, chosen, backdrop, colour, image), chosen.image.infotext


def show_backdrop(backdrop: str) -> tuple[Any, Any]:
    """Returns whether the colour and the image slot are shown."""
    return gr.update(visible=backdrop == "Colour"), gr.update(visible=backdrop == "Image")


def offer_use(result: Result | None) -> Any:
    """Returns whether the button is there that uses a layer: when there is one."""
    return gr.update(visible=bool(result and result.saved))


def choose(event: gr.SelectData) -> int:
    """Returns which of the gallery's images was clicked."""
    return int(event.index)


def use_as_input(result: Result | None, index: int) -> list[Any]:
    """Returns the panel's image slots: the chosen layer in its own, the others as they are."""
    if result is None or not result.saved:
        raise gr.Error("There is no layer yet. Generate one first.", title="Nothing chosen")
    shown = result.saved[min(index, len(result.saved) - 1)]
    chosen = next(one for one in result.saved if one.image is shown.image and not one.extra)
    gr.Info(f"It is now the {chosen.layer.label} image of the methods that take one.")
    return [str(chosen.path) if layer is chosen.layer else gr.skip() for layer in Layer]


@contextmanager
def _always_on() -> Iterator[Any]:
    """Gives the panel a frame, and an `enabled` that is true and not shown."""
    with gr.Group():
        yield gr.Checkbox(True, visible=False)


def _captioned(result: Result) -> list[tuple[str, str]]:
    several = len({one.image.set_index for one in result.saved}) > 1

    def caption(one: SavedImage) -> str:
        of_set = f" · set {one.image.set_index + 1}" if several else ""
        return f"{one.label}{of_set}"

    return [(str(one.path), caption(one)) for one in result.saved]


def _first_fg(result: Result) -> int:
    layers = [one.layer for one in result.saved]
    return layers.index(Layer.FG) if Layer.FG in layers else 0


def _visitor(request: gr.Request | None) -> str:
    return (request and request.session_hash) or ""


def serve(
    workbench: Workbench,
    *,
    address: str,
    port: int | None,
    opens: bool,
    login: tuple[str, str] | None = None,
) -> None:
    """Serves the page until it is interrupted.

    Args:
        workbench: What does the work.
        address: Where to listen; 127.0.0.1 for this computer only.
        port: Its port; None for the first that is free from 7860 on.
        opens: Whether to open it in the browser.
        login: The user and the password that the page asks for; None for nothing.
    """
    Page(workbench).blocks.queue().launch(
        server_name=address,
        server_port=port,
        inbrowser=opens,
        share=False,
        auth=login,
        css=PANEL_CSS + CSS,
        theme=gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"]),
        allowed_paths=[str(workbench.folder.folder.resolve())],
        footer_links=[],
    )
