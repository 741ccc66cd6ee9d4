"""What a job finds on the settings page and the command line, whose flags win."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from modules import shared
from modules.paths import models_path

from ...codec.transparent import OFFSET_STRENGTH
from ...codec.views import CHOICES as VIEWS
from ...codec.views import Views
from ...documents.kinds import DocumentKind, find_kinds
from ...errors import SettingsError, shortened
from ...outputs import SHOWS, asked_for
from ...settings.layer_settings import LayerSettings
from ...weights.store import WeightStore
from .progress import show_download

PRECISIONS = {"auto": None, "fp32": torch.float32, "fp16": torch.float16}
STRONGEST = 1000
FILES = tuple(kind.value for kind in DocumentKind)
OUTPUTS = {
    field.metadata["label"]: field.name for field in fields(LayerSettings) if field.name in SHOWS
}
LABELS = {
    label: field.metadata["label"]
    for field in fields(LayerSettings)
    if field.name in SHOWS
    for label in (field.metadata["label"], *field.metadata.get("old_labels", ()))
}
"""The labels of `OUTPUTS`, by themselves and by what they were before."""

DEFAULTS: dict[str, Any] = {
    "layerdiffuse_models_folders": "",
    "layerdiffuse_offline": False,
    "layerdiffuse_decoder_precision": "auto",
    "layerdiffuse_decoder_views": VIEWS[0],
    "layerdiffuse_decoder_compiled": False,
    "layerdiffuse_offset_strength": OFFSET_STRENGTH,
    "layerdiffuse_outputs": [],
    "layerdiffuse_layer_files": [],
    "layerdiffuse_keep_pictures": True,
    "layerdiffuse_pictures_count": 1000,
    "layerdiffuse_pictures_mib": 2048,
}
OWNERS = (
    "layerdiffuse_models_folders",
    "layerdiffuse_pictures_count",
    "layerdiffuse_pictures_mib",
)
"""The options for the page alone: which folders are looked in, and when files are deleted."""


@dataclass(frozen=True)
class Choices:
    """What the settings page and the command line say for one job.

    Attributes:
        folders: Where to look for weight files beside the WebUI's own folder, first first.
        offline: Never download.
        dtype: The type that the transparent decoder computes in; None for the host's choice.
        views: How many views the decoder takes.
        compiled: Whether it is compiled, where PyTorch can do that.
        offset_strength: Factor of the transparent encoder's offset.
        outputs: Names of the `show_…` settings that every job has on.
        files: The kinds of file that each set's layers are saved in, too.
    """

    folders: tuple[Path, ...]
    offline: bool
    dtype: torch.dtype | None
    views: Views
    compiled: bool
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
    return getattr(shared.opts, name, DEFAULTS[name])


def choices() -> Choices:
    """Returns what is set now.

    Raises:
        SettingsError: A value is none of those to choose from; `field` is the option.
    """
    _check_list("layerdiffuse_outputs", LABELS, OUTPUTS)
    _check_list("layerdiffuse_layer_files", FILES, FILES)
    most_pictures()
    return Choices(
        folders=_folders(),
        offline=bool(_on("layerdiffuse_offline") or _flag("layerdiffuse_offline")),
        dtype=PRECISIONS[_one_of("layerdiffuse_decoder_precision", PRECISIONS)],
        views=_one_of("layerdiffuse_decoder_views", VIEWS),
        compiled=_on("layerdiffuse_decoder_compiled"),
        offset_strength=_strength("layerdiffuse_offset_strength"),
        outputs=outputs_always_given(),
        files=find_kinds(option("layerdiffuse_layer_files") or ()),
    )


def most_pictures() -> tuple[int, int]:
    """Returns how many of the images that layers were made from are kept, and of how many bytes.

    Raises:
        SettingsError: A value is none of those to choose from; `field` is the option.
    """
    return _count("layerdiffuse_pictures_count"), _count("layerdiffuse_pictures_mib") << 20


def outputs_always_given() -> frozenset[str]:
    """Returns the names of the `show_…` settings that every job has on."""
    labels = option("layerdiffuse_outputs") or ()
    return frozenset(OUTPUTS[LABELS[label]] for label in labels if label in LABELS)


def wanted(settings: LayerSettings, now: Choices) -> frozenset[str]:
    """Returns the names of the `show_…` settings that are on for a job, by itself or always."""
    return now.outputs | asked_for(settings)


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
    for one in allowed:
        if value in (one, str(one)):  # Programs set numbers as text, too.
            return one
    raise _refused(name, f"one of {_listed(allowed)}", value)


def _on(name: str) -> bool:
    return bool(_one_of(name, (False, True)))


def _strength(name: str) -> float:
    value = option(name)
    if not isinstance(value, (int, float)) or not 0 <= value <= STRONGEST:
        raise _refused(name, f"a number from 0 to {STRONGEST}", value)
    return float(value)


def _count(name: str) -> int:
    value = option(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 1 <= value < 2**31:
        raise _refused(name, "a number from 1 on", value)
    return int(value)


def _check_list(name: str, allowed: Any, offered: Any) -> None:
    value = option(name) or []
    if not isinstance(value, list) or any(one not in tuple(allowed) for one in value):
        raise _refused(name, f"a list of some of {_listed(offered)}", value)


def _listed(allowed: Any) -> str:
    return ", ".join(str(one) for one in allowed)


def _refused(name: str, wanted: str, got: object) -> SettingsError:
    return SettingsError(
        f"The option {name} must be {wanted}, but is {shortened(got)}.",
        "Choose it under Settings, LayerDiffuse.",
        field=name,
    )
