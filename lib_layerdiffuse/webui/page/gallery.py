"""Below the gallery: results go into the panel's slots, and a set's layers are looked at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from html import escape
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any
from weakref import finalize

import gradio as gr
from PIL import Image

from ...documents.kinds import DocumentKind
from ...errors import LayerDiffuseError, SettingsError
from ...methods import Layer, find_method
from ...settings.chains import next_method
from ...ui.panel import Panel
from ..job.layer_files import write_set
from .gallery_images import NO_FOREGROUND, GalleryImages

_WITH_CHOSEN = (
    "(gallery, info, chosen, ...rest) => [gallery, info, selected_gallery_index(), ...rest]"
)
_COUNTED = "(gallery, info) => [null, info, (gallery || []).length]"  # No image is sent for it.
_VIEW = "Look at the foreground over its background, a colour or any image"


class BelowGallery:
    """The buttons of one tab, and what they say and open.

    The host builds the page from above, so each part is made when what it needs is there.
    """

    def __init__(self, tab: str, panel: Panel) -> None:
        """Keeps what the buttons act on.

        Args:
            tab: "txt2img" or "img2img".
            panel: That tab's.
        """
        self.tab, self.panel = tab, panel
        self.gallery: Any = None
        self.folder = mkdtemp(prefix="layerdiffuse-")  # As long as the page is there.
        finalize(self, rmtree, self.folder, ignore_errors=True)

    def watch(self, on_after_component: Callable[..., None]) -> None:
        """Asks the host to be told of its components; an API without a page never does."""
        for elem_id, act in (
            (f"{self.tab}_gallery", self._keep_gallery),
            (f"download_files_{self.tab}", self._build),
            (f"generation_info_{self.tab}", self._connect),
        ):
            on_after_component(act, elem_id=elem_id)

    def _keep_gallery(self, made: Any) -> None:
        self.gallery = made.component

    def _build(self, _made: Any) -> None:
        name = f"layerdiffuse_{{}}_{self.tab}".format
        hidden = {"visible": False, "elem_classes": ["layerdiffuse-results"]}
        with gr.Row(elem_id=name("results"), **hidden) as self.results:
            self.put = {
                layer: _button(
                    f"→ {layer.label}",
                    name(f"to_{layer.value}"),
                    f"Put the chosen image into LayerDiffuse's {layer.label} slot",
                )
                for layer in Layer
            }
            self.view = _button("Composite view", name("view"), _VIEW)
        with gr.Row(elem_id=name("files"), **hidden) as self.documents:
            self.files = {
                kind: _button(
                    f"Layers as {kind.label}",
                    name(f"as_{kind.value}"),
                    "Download all layers of the chosen image's set in one file",
                )
                for kind in DocumentKind
            }
        self.told = gr.HTML("", elem_id=name("told"), elem_classes=["layerdiffuse-told"])
        gr.HTML('<div class="layerdiffuse-composite"></div>', elem_id=name("composite"))
        self.chosen = gr.Number(-1, precision=0, visible=False)
        self.tooltip = gr.Textbox(_VIEW, visible=False)
        self.layers = gr.Gallery(visible=False, format="png", type="filepath")
        self.file = gr.File(visible=False)

    def _connect(self, made: Any) -> None:
        self._follow(made.component)
        part = self.panel.component
        slots = [part(f"{layer.value}_image") for layer in Layer]
        what = [self.gallery, made.component, self.chosen]
        quiet = {"_js": _WITH_CHOSEN, "show_progress": "hidden"}
        for layer, button in self.put.items():
            button.click(
                partial(put, layer),
                inputs=[*what, part("method"), *slots],
                outputs=[
                    part(f"{layer.value}_image"),
                    part("method"),
                    self.panel.chosen,
                    part("enabled"),
                    self.told,
                ],
                **quiet,
            )
        self.view.click(
            look, inputs=[*what, *slots], outputs=[self.layers, self.told], **quiet
        ).then(
            None,
            _js=f"(layers) => layerdiffuseComposite.show('{self.tab}', layers)",
            inputs=[self.layers],
            outputs=[],
        )
        for kind, button in self.files.items():
            button.click(
                partial(give, kind, self.folder),
                inputs=[*what, *slots],
                outputs=[self.file, self.told],
                **quiet,
            ).then(
                None,
                _js="(file) => layerdiffuseComposite.save(file)",
                inputs=[self.file],
                outputs=[],
            )

    def _follow(self, info: Any) -> None:
        """Has the buttons be there when there is something to act on."""
        # Gradio 3's galleries do not say that they change; what is told of them changes, too.
        changed = getattr(self.gallery, "change", info.change)
        changed(
            offer,
            inputs=[self.gallery, info, self.chosen],
            outputs=[self.results, self.documents, self.view, self.tooltip],
            _js=_COUNTED,
            show_progress="hidden",
            queue=False,
        ).then(
            None,
            _js=f"(why) => layerdiffuseComposite.explain('{self.tab}', why)",
            inputs=[self.tooltip],
            outputs=[],
        )


def _button(label: str, elem_id: str, tooltip: str) -> Any:
    return gr.Button(label, elem_id=elem_id, size="sm", min_width=110, tooltip=tooltip)


def offer(_gallery: None, info: str, count: int) -> list[Any]:
    """Returns which buttons are there: those for images, those for layers, and the view's.

    The last is the view's tooltip: what it does, or why it is off.

    Args:
        info: The page's generation info.
        count: How many images are in the gallery.
    """
    shown = GalleryImages.named([None] * int(count), info)
    lacks = shown.view_lacks()
    return [
        gr.update(visible=bool(shown.images)),
        gr.update(visible=bool(shown.sets())),
        gr.update(interactive=not lacks),
        lacks or _VIEW,
    ]


def put(
    layer: Layer,
    gallery: Sequence[Any] | None,
    info: str,
    chosen: int,
    method: str,
    *slots: Any,
) -> list[Any]:
    """Returns what becomes of the panel after a result was put into it, and what to say.

    The panel's part is the slot, the method, that it was chosen, and the tick box.

    Args:
        layer: The slot.
        gallery: The gallery's value.
        info: The page's generation info.
        chosen: The place of the chosen image; below 0 for none.
        method: The label of the panel's method.
        slots: What the panel's slots hold, in the order of the layers.
    """
    try:
        shown = GalleryImages.read(gallery, info)
        index = shown.choose(int(chosen), layer)
        made = shown.method(index)
        filled = {one for one, held in zip(Layer, slots, strict=True) if held is not None}
        current = find_method(method)
        after = next_method(layer, made=made, current=current, filled=filled - {layer})
    except LayerDiffuseError as error:
        return [*(gr.update() for _ in range(4)), _told(error)]
    took = "The image of the set" if len(shown.images) > 1 and index != chosen else "This image"
    said = [(f"{took} is now in the slot", layer.label), ("The method is now", after.label)]
    if after.arch is not (made or current).arch:
        said.append(("This method needs a checkpoint of the family", after.arch.value))
    missing = [one.label for one in after.inputs if one not in filled | {layer}]
    if missing:
        said.append(("Still missing", ", ".join(missing)))
    image = _as_served(shown.images[index])
    return [gr.update(value=image), gr.update(value=after.label), True, True, _said(*said)]


def look(
    gallery: Sequence[Any] | None, info: str, chosen: int, *slots: Any
) -> tuple[list[tuple[Image.Image, str]], str]:
    """Returns the chosen set's foreground and background for the composite view, and what to say.

    Args:
        gallery: The gallery's value.
        info: The page's generation info.
        chosen: The place of the chosen image; where it is no layer, the last set is taken.
        slots: What the panel's slots hold, in the order of the layers.
    """
    try:
        layers = _layers(gallery, info, chosen, slots)
        if Layer.FG not in layers:
            raise SettingsError(*NO_FOREGROUND)
    except LayerDiffuseError as error:
        return [], _told(error)
    seen = [layer for layer in (Layer.FG, Layer.BG) if layer in layers]
    return [(layers[layer], layer.value) for layer in seen], ""


def give(
    kind: DocumentKind,
    folder: str,
    gallery: Sequence[Any] | None,
    info: str,
    chosen: int,
    *slots: Any,
) -> tuple[str | None, str]:
    """Returns the path of a new file with the chosen set's layers, and what to say.

    Args:
        kind: The kind of file.
        folder: Where to make it, in a folder of its own.
        gallery: The gallery's value.
        info: The page's generation info.
        chosen: The place of the chosen image; where it is no layer, the last set is taken.
        slots: What the panel's slots hold, in the order of the layers.
    """
    try:
        layers = _layers(gallery, info, chosen, slots)
        return str(write_set(layers, kind, Path(mkdtemp(dir=folder)))), ""
    except LayerDiffuseError as error:
        return None, _told(error)


def _layers(
    gallery: Sequence[Any] | None, info: str, chosen: int, slots: Sequence[Any]
) -> dict[Layer, Image.Image]:
    """Returns the layers of the chosen set, or of the last, as the host serves them."""
    shown = GalleryImages.read(gallery, info)
    layers = shown.layers(int(chosen), dict(zip(Layer, slots, strict=True)))
    return {layer: _as_served(image) for layer, image in layers.items()}


def _as_served(image: Image.Image) -> Image.Image:
    """Returns an image that the host serves from the file that it came from, if it did."""
    name = str(getattr(image, "filename", ""))
    if name and not hasattr(image, "already_saved_as"):
        image.already_saved_as = name.rsplit("?", 1)[0]  # type: ignore[attr-defined]
    return image


def _told(error: LayerDiffuseError) -> str:
    return _said((error.message, ""), (error.hint, ""))


def _said(*sentences: tuple[str, str]) -> str:
    """Returns sentences as HTML, each text by itself, since pages are translated text by text.

    Args:
        sentences: Each a text, and what follows it behind a colon; empty for nothing.
    """
    texts = (
        f"<span>{escape(text)}</span>" + (f": <b>{escape(what)}</b>." if what else "")
        for text, what in sentences
    )
    return f'<div role="status">{" ".join(texts)}</div>'
