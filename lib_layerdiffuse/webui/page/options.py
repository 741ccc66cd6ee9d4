"""The page "LayerDiffuse" of the WebUI's settings, and what a job finds there.

The command line's flags win over the page.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import gradio as gr
import torch
from modules import shared
from modules.paths import models_path

from ...codec.transparent import OFFSET_STRENGTH
from ...documents.kinds import DocumentKind, find_kinds
from ...errors import SettingsError, shortened
from ...settings.layer_settings import LayerSettings
from ...weights.store import WeightStore
from ..job.progress import show_download
from . import kept_pictures

_PAGE = ("layerdiffuse", "LayerDiffuse")
_PRECISIONS = {"auto": None, "fp32": torch.float32, "fp16": torch.float16}
_VIEWS = (8, 4, 2, 1)
_STRONGEST = 1000
_FILES = tuple(kind.value for kind in DocumentKind)
_OUTPUTS = {
    field.metadata["label"]: field.name
    for field in fields(LayerSettings)
    if field.name.startswith("show_")
}

_DEFAULTS: dict[str, Any] = {
    "layerdiffuse_models_folders": "",
    "layerdiffuse_offline": False,
    "layerdiffuse_decoder_precision": "auto",
    "layerdiffuse_decoder_views": _VIEWS[0],
    "layerdiffuse_offset_strength": OFFSET_STRENGTH,
    "layerdiffuse_outputs": [],
    "layerdiffuse_layer_files": [],
    "layerdiffuse_keep_pictures": True,
}


@dataclass(frozen=True)
class Choices:
    """What the settings page and the command line say for one job.

    Attributes:
        folders: Where to look for weight files beside the WebUI's own folder, first first.
        offline: Never download.
        dtype: The type that the transparent decoder computes in; None for the host's choice.
        views: How many views the decoder takes.
        offset_strength: Factor of the transparent encoder's offset.
        outputs: Names of the `show_…` settings that every job has on.
        files: The kinds of file that each set's layers are saved in, too.
    """

    folders: tuple[Path, ...]
    offline: bool
    dtype: torch.dtype | None
    views: int
    offset_strength: float
    outputs: frozenset[str]
    files: tuple[DocumentKind, ...]

    def store(self) -> WeightStore:
        """Returns a store of these folders; nothing is read or written yet."""
        return WeightStore(
            Path(models_path) / "layer_model",
            extra_folders=self.folders,
            offline=self.offline,
            on_progress=show_download,
        )

    def has(self, store: WeightStore) -> bool:
        """Whether a store is one of these folders."""
        return (store.extra_folders, store.offline) == (self.folders, self.offline)


def option(name: str) -> Any:
    """Returns an option of ours as it is set now; the default where the host lacks the page."""
    return getattr(shared.opts, name, _DEFAULTS[name])


def choices() -> Choices:
    """Returns what is set now.

    Raises:
        SettingsError: A value is none of those to choose from; `field` is the option.
    """
    for name, allowed in (("layerdiffuse_outputs", _OUTPUTS), ("layerdiffuse_layer_files", _FILES)):
        _check_list(name, allowed)
    return Choices(
        folders=_folders(),
        offline=bool(
            _one_of("layerdiffuse_offline", (False, True)) or _flag("layerdiffuse_offline")
        ),
        dtype=_PRECISIONS[_one_of("layerdiffuse_decoder_precision", _PRECISIONS)],
        views=int(_one_of("layerdiffuse_decoder_views", _VIEWS)),
        offset_strength=_strength("layerdiffuse_offset_strength"),
        outputs=outputs_always_given(),
        files=find_kinds(option("layerdiffuse_layer_files") or ()),
    )


def outputs_always_given() -> frozenset[str]:
    """Returns the names of the `show_…` settings that every job has on."""
    labels = option("layerdiffuse_outputs") or ()
    return frozenset(_OUTPUTS[label] for label in labels if label in _OUTPUTS)


def wants(settings: LayerSettings, now: Choices, name: str) -> bool:
    """Whether a job gives what one of the `show_…` settings stands for."""
    return bool(getattr(settings, name)) or name in now.outputs


def _flag(name: str) -> Any:
    return getattr(shared.cmd_opts, name, None)


def _folders() -> tuple[Path, ...]:
    name = "layerdiffuse_models_folders"
    value = option(name) or ""
    if not isinstance(value, str):
        raise _refused(name, "a text with one folder a line", value)
    named = [_flag("layerdiffuse_models_dir"), *value.splitlines()]
    texts = [text.strip() for text in named if text]
    try:
        return tuple(Path(text).expanduser() for text in dict.fromkeys(texts) if text)
    except RuntimeError as error:
        raise _refused(name, "folders of users that there are", value) from error


def _one_of(name: str, allowed: Any) -> Any:
    value = option(name)
    if value not in tuple(allowed):
        raise _refused(name, f"one of {_listed(allowed)}", value)
    return value


def _strength(name: str) -> float:
    value = option(name)
    if not isinstance(value, (int, float)) or not 0 <= value <= _STRONGEST:
        raise _refused(name, f"a number from 0 to {_STRONGEST}", value)
    return float(value)


def _check_list(name: str, allowed: Any) -> None:
    value = option(name) or []
    if not isinstance(value, list) or any(one not in tuple(allowed) for one in value):
        raise _refused(name, f"a list of some of {_listed(allowed)}", value)


def _listed(allowed: Any) -> str:
    return ", ".join(str(one) for one in allowed)


def _refused(name: str, wanted: str, got: object) -> SettingsError:
    return SettingsError(
        f"Expected {wanted} for the option {name}, got {shortened(got)}.",
        "Choose it under Settings, LayerDiffuse.",
        field=name,
    )


def add_page() -> None:
    """Adds the page's options to the host's, before it makes its page or takes a job.

    What is not among its options the host does not put back after a job that overrides it.
    """
    hidden = getattr(shared, "hide_dirs", {})
    folders_args = {"lines": 2, "placeholder": "one folder a line"} | hidden
    _add("models_folders", "Further folders with weight files", gr.Textbox, folders_args).info(
        "looked in after that of --layerdiffuse-models-dir; nothing is changed there"
    )
    _add("offline", "Never download weight files", gr.Checkbox)
    _add(
        "decoder_precision",
        "Precision of the transparent decoder",
        gr.Radio,
        {"choices": list(_PRECISIONS)},
    ).info("auto is what the WebUI computes in; fp32 where a result is black or broken")
    _add(
        "decoder_views", "Views of the transparent decoder", gr.Radio, {"choices": list(_VIEWS)}
    ).info("8 gives the best edges; 1 is eight times as fast")
    _add(
        "offset_strength",
        "Strength of transparency in img2img",
        gr.Slider,
        {"minimum": 0, "maximum": _STRONGEST, "step": 1},
    ).info(
        "scales the transparent encoder's offset of the init picture; 300 is the author's, 1 gives "
        "what the original extension did, 0 none"
    )
    _add(
        "outputs",
        "Beside the transparent picture, always give",
        gr.CheckboxGroup,
        {"choices": list(_OUTPUTS)},
    )
    _add(
        "layer_files",
        "Save each set's layers in one file, too",
        gr.CheckboxGroup,
        {"choices": list(_FILES)},
    )
    held = kept_pictures.store().size()
    _add("keep_pictures", "Keep the pictures that layers were made from", gr.Checkbox).info(
        "so that pasting an infotext brings them back; "
        f"when the WebUI started, {held.pictures} of them took {held.bytes / 2**20:.1f} MiB"
    )


def _add(name: str, label: str, component: Any, args: dict[str, Any] | None = None) -> Any:
    key = f"layerdiffuse_{name}"
    info = shared.OptionInfo(_DEFAULTS[key], label, component, args, section=_PAGE)
    shared.opts.add_option(key, info)
    return info
