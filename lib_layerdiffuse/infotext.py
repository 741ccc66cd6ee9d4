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
    """Returns the field values that parsed infotext carries.

    Without our keys that is `enabled` False alone. With them, a text that is not written is empty
    and any other value the default. Pictures are not in infotext. A value that cannot be read is
    left out.
    """
    found: dict[str, Any] = {"enabled": False}
    if not any(field.metadata["infotext"] in params for field in _FIELDS.values()):
        return found
    for name, field in _FIELDS.items():
        key = field.metadata["infotext"]
        if key is None or field.metadata.get("picture"):
            continue
        try:
            settings = LayerSettings.from_args([{name: params.get(key)}])
        except SettingsError:
            continue
        found[name] = getattr(settings, name)
    return found


_FIELDS = {field.name: field for field in fields(LayerSettings)}
