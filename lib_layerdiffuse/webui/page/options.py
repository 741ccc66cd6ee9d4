"""The page "LayerDiffuse" of the WebUI's settings."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

import gradio as gr
from modules import shared

from ...codec.views import CHOICES as VIEWS
from ...errors import SettingsError
from ..job.choices import (
    DEFAULTS,
    FILES,
    LABELS,
    OUTPUTS,
    OWNERS,
    PRECISIONS,
    STRONGEST,
    option,
)
from ..job.kept_images import store

_PAGE = ("layerdiffuse", "LayerDiffuse")


def add_page() -> None:
    """Adds the page's options to the host's, before it makes its page or takes a job.

    What is not among its options the host does not put back after a job that overrides it.
    """
    hidden = getattr(shared, "hide_dirs", {})
    folders_args = {"lines": 2, "placeholder": "one folder a line"} | hidden
    _add(
        "models_folders",
        "Further folders with weight files",
        gr.Textbox,
        folders_args,
        "looked in after that of --layerdiffuse-models-dir; nothing is changed there",
    )
    _add("offline", "Never download weight files", gr.Checkbox)
    _add_decoder()
    _add(
        "offset_strength",
        "Strength of transparency in img2img",
        gr.Slider,
        {"minimum": 0, "maximum": STRONGEST, "step": 1},
        "scales the transparent encoder's offset of the init image; 300 is the author's, 1 gives "
        "what the original extension did, 0 none",
    )
    _add(
        "outputs",
        "Beside the transparent image, always give",
        gr.CheckboxGroup,
        {"choices": list(OUTPUTS)},
    )
    _rename_outputs()
    _add(
        "layer_files",
        "Save each set's layers in one file, too",
        gr.CheckboxGroup,
        {"choices": list(FILES)},
    )
    _add_pictures()


def _add_decoder() -> None:
    _add(
        "decoder_precision",
        "Precision of the transparent decoder",
        gr.Radio,
        {"choices": list(PRECISIONS)},
        "auto is what the WebUI computes in; fp32 where a result is black or broken",
    )
    _add(
        "decoder_views",
        "Views of the transparent decoder",
        gr.Radio,
        {"choices": list(VIEWS)},
        "8 gives the best edges, 1 is eight times as fast; adaptive is 2, or more where needed",
    )
    _add(
        "decoder_compiled",
        "Compile the transparent decoder",
        gr.Checkbox,
        told="for many images of one size on a GPU, with the same result; no faster on a CPU. "
        "The first image of each size waits a minute or more; without a compiler a note says so",
    )


def _add_pictures() -> None:
    held = store().size()
    number = {"precision": 0, "minimum": 1}
    _add(
        "keep_pictures",
        "Keep the images that layers were made from",
        gr.Checkbox,
        told="so that pasting an infotext brings them back; "
        f"when the WebUI started, {held.images} of them took {held.bytes / 2**20:.1f} MiB",
    )
    _add(
        "pictures_count",
        "How many of these images are kept",
        gr.Number,
        number,
        "beyond that the least recently used ones are deleted, but none of the running job",
    )
    _add("pictures_mib", "How many MiB of these images are kept", gr.Number, number, "likewise")


def _rename_outputs() -> None:
    """Puts today's labels in place of older ones in what was chosen, so that the page shows them.

    What is no list of labels stays, for a job to refuse.
    """
    chosen = option("layerdiffuse_outputs")
    if isinstance(chosen, list) and all(isinstance(label, str) for label in chosen):
        renamed = [LABELS.get(label, label) for label in chosen]
        shared.opts.data["layerdiffuse_outputs"] = list(dict.fromkeys(renamed))


def _add(
    name: str, label: str, component: Any, args: dict[str, Any] | None = None, told: str = ""
) -> None:
    """Adds one option; one of the owner's only where the host can keep programs from setting it."""
    key = f"layerdiffuse_{name}"
    info = shared.OptionInfo(DEFAULTS[key], label, component, args, section=_PAGE)
    if key in OWNERS:
        if not hasattr(info, "restrict_api"):
            return
        info.restrict_api, info.onchange = True, _refuse_programs
    shared.opts.add_option(key, info.info(told) if told else info)


def _refuse_programs() -> None:
    """Raises where a program sets an option, which the host puts back then.

    The host keeps programs off by itself where it knows them for such; Forge's own address for
    options does not tell it.

    Raises:
        SettingsError: The host's API is among the callers.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if str(frame.f_globals.get("__name__")).startswith("modules.api."):
            raise SettingsError(
                "This option cannot be set over the API.", "Choose it under Settings, LayerDiffuse."
            )
        frame = frame.f_back
