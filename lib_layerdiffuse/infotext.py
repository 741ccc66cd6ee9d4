"""`LayerSettings` to and from infotext, with the original extension's keys and labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np

from .errors import SettingsError
from .images import ResizeMode
from .methods import LayerMethod
from .settings import LayerSettings


def to_infotext(settings: LayerSettings) -> dict[str, str]:
    """Returns the values to write by key; empty texts are left out, as the WebUI requires.

    A picture is written as whether it was given.
    """
    values = (
        (field.metadata["infotext"], _text(getattr(settings, field.name)))
        for field in fields(settings)
    )
    return {key: text for key, text in values if key and text}


def _text(value: Any) -> str:
    if isinstance(value, LayerMethod):
        return value.label
    if isinstance(value, ResizeMode):
        return value.value
    if value is None or isinstance(value, np.ndarray):
        return str(value is not None)
    return f"{value:g}" if isinstance(value, float) else str(value)


def from_infotext(params: Mapping[str, str]) -> dict[str, Any]:
    """Returns the field values that parsed infotext carries; without our keys, `enabled` is False.

    Pictures are not in infotext. A value that cannot be read is left out.
    """
    found: dict[str, Any] = {"enabled": False}
    for field in fields(LayerSettings):
        key = field.metadata["infotext"]
        if key not in params or field.metadata.get("picture"):
            continue
        try:
            one = LayerSettings.from_args([{field.name: params[key]}])
        except SettingsError:
            continue
        found[field.name] = getattr(one, field.name)
    return found
