"""What a row of a job file may say beside the settings of the method, described as those are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from ..errors import SettingsError, shortened, unknown_name
from ..settings.fields import ReadImage, check_json, field_name, read, setting
from ..settings.layer_settings import LayerSettings
from ..standalone.bounds import CFG, DENOISE, SETS, STEPS
from ..standalone.defaults import LARGEST_SEED

LORAS = "loras"
_PREDICTIONS = {"eps": "eps", "v": "v"}


def _text(api: str, label: str, about: str) -> Any:
    return setting("", api, label, about)


@dataclass(frozen=True, eq=False)
class JobFields:
    """A row's values that are not the method's; None or empty for the author's choice."""

    prompt: str = _text("prompt", "Prompt", "What to draw.")
    negative_prompt: str = _text("negative_prompt", "Negative prompt", "What to avoid.")
    size: str = _text("size", "Size", "Width and height such as 512x640, in multiples of 8.")
    sampler: str = _text("sampler", "Sampler", "Its name in the WebUI.")
    checkpoint: str = _text(
        "checkpoint", "Checkpoint", "A .safetensors file or a diffusers folder; empty for tiny."
    )
    prediction: str | None = setting(
        None, "prediction", "Prediction", "What the UNet predicts.", choices=_PREDICTIONS
    )
    views: str = _text("views", "Views", "Of the transparent decoder: 1 to 8, or adaptive.")
    compiled: bool = setting(
        False, "compiled", "Compiled", "Whether PyTorch compiles the transparent decoder."
    )
    layers: str = _text("layers", "Layer files", "psd, ora, zip, or several with commas.")
    trim: bool = setting(False, "trim", "Trim", "Cut layers in these files to what is visible.")
    sets: int = setting(1, "sets", "Sets", "How many sets of layers.", type="integer", bounds=SETS)
    seed: int = setting(
        -1,
        "seed",
        "Seed",
        "Of the first layer; -1 for one that follows from the row.",
        type="integer",
        bounds=(-1, LARGEST_SEED),
    )
    steps: int | None = setting(
        None, "steps", "Steps", "Of the whole schedule.", type="integer", bounds=STEPS
    )
    cfg: float | None = setting(
        None, "cfg", "CFG scale", "Scale of the guidance.", type="number", bounds=CFG
    )
    denoise: float | None = setting(
        None, "denoise", "Denoise", "How much init changes.", type="number", bounds=DENOISE
    )
    second_sampler: str = _text("second_sampler", "Second sampler", "Of a chain's second step.")
    second_stop_at: float | None = setting(
        None,
        "second_stop_at",
        "Second stop-at",
        "Of a chain's second step.",
        type="number",
        bounds=(0.0, 1.0),
    )
    init: Any = setting(None, "init", "Init image", "An image to draw over.", image=True)
    loras: tuple[str, ...] = setting((), LORAS, "LoRAs", "Each as FILE or FILE:WEIGHT.")


def split(values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns a row's values as those of the method's settings and as those of the job.

    Raises:
        SettingsError: A name is neither's; `field` is the name.
    """
    ours = {one.name for one in fields(JobFields)}
    theirs = {one.name: one.metadata["api"] for one in fields(LayerSettings)}
    known = {name: name for name in [*ours, *theirs.values(), *theirs]}
    method: dict[str, Any] = {}
    job: dict[str, Any] = {}
    for name, value in values.items():
        if name not in known or name in ("enabled", "output_origin"):
            raise unknown_name("setting", name, known, field=str(name)[:99])
        if name in ours:
            job[name] = value
        else:
            method[field_name(LayerSettings, name)] = value
    return method, job


def read_fields(values: Mapping[str, Any], read_image: ReadImage, *, strict: bool) -> JobFields:
    """Returns a row's values that are not the method's.

    Args:
        values: By name; None counts as not given.
        read_image: Turns an image's address into an image.
        strict: Take JSON's own types only.

    Raises:
        SettingsError: A value cannot be used; `field` names it.
    """
    given = {name: value for name, value in values.items() if value is not None}
    by_name = {one.name: one for one in fields(JobFields)}
    loras = given.pop(LORAS, None)
    for name, value in given.items() if strict else ():
        check_json(by_name[name], value)
    found = {name: read(by_name[name], value, read_image) for name, value in given.items()}
    return JobFields(**found, loras=lora_texts(loras or ()))


def lora_texts(value: Any) -> tuple[str, ...]:
    """Returns the LoRAs of a row, each as FILE or FILE:WEIGHT; in one text they stand between `;`.

    Raises:
        SettingsError: It is neither a list of texts nor a text.
    """
    texts = value.split(";") if isinstance(value, str) else value
    if not isinstance(texts, (list, tuple)) or not all(isinstance(one, str) for one in texts):
        raise SettingsError(
            f"LoRAs must be a list of texts, but is {shortened(value)}.",
            "Write each as FILE or FILE:WEIGHT.",
            field=LORAS,
        )
    return tuple(text.strip() for text in texts if text.strip())
