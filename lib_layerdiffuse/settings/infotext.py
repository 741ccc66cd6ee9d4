"""`LayerSettings` to and from infotext, with the original extension's keys and labels."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import fields
from enum import Enum
from typing import Any

import numpy as np

from ..errors import SettingsError
from ..methods import Layer, LayerMethod
from .fields import read
from .layer_settings import LayerSettings

_FIELDS = {field.name: field for field in fields(LayerSettings)}
_KEYS = {name: field.metadata["infotext"] for name, field in _FIELDS.items()}


def to_infotext(
    settings: LayerSettings, hashes: Mapping[Layer, str] | None = None
) -> dict[str, str]:
    """Returns the values to write by key; empty texts are left out, as the WebUI requires.

    An image is written as whether it was given, beside its hash if it was kept. Outputs, chains
    and masks that were not asked for are left out.

    Args:
        settings: The user's choices.
        hashes: The names under which given images were kept.
    """
    written = {
        key: text
        for name, key in _KEYS.items()
        if key and (text := _text(getattr(settings, name))) and not _is_left_out(name, settings)
    }
    return written | {_hash_key(layer): name for layer, name in (hashes or {}).items()}


def _is_left_out(name: str, settings: LayerSettings) -> bool:
    optional = name.startswith("show_") or name in ("chain", "mask_source")
    return optional and getattr(settings, name) == _FIELDS[name].default


def _text(value: Any) -> str:
    if isinstance(value, LayerMethod):
        return value.label
    if isinstance(value, Enum):
        return str(value.value)
    if value is None or isinstance(value, np.ndarray):
        return str(value is not None)
    return _number(value) if isinstance(value, float) else str(value)


def _number(value: float) -> str:
    """Returns the shortest text that reads as this number."""
    short = f"{value:g}"
    return short if float(short) == value else repr(value)


def for_webui(values: Mapping[str, str]) -> dict[str, str]:
    """Returns values so that a WebUI, which writes and quotes them itself, reads them as they were.

    It quotes what holds a comma, a colon or a line break; what else has to be is quoted here.
    """
    return {k: text if _QUOTED & set(text) else _quoted(k, text) for k, text in values.items()}


def infotext_line(values: Mapping[str, object]) -> str:
    """Returns the last line of an infotext as a WebUI writes it; None and "" are left out."""
    texts = {key: str(value) for key, value in values.items() if value not in (None, "")}
    return ", ".join(f"{key}: {_quoted(key, text)}" for key, text in texts.items())


_QUOTED = frozenset(",:\n")
"""What a WebUI quotes a text for."""


def _quoted(key: str, text: str) -> str:
    """Returns a text as it is, or as JSON where a WebUI would read another one.

    That is where it holds what ends a value, begins like JSON or with a blank, ends with a blank,
    equals its key (the WebUI would write only that), or holds characters that files and text fields
    change on the way.
    """
    misread = text.startswith('"') or text == key or text != text.strip()
    if misread or _QUOTED & set(text) or any(c < " " for c in text):
        return json.dumps(text, ensure_ascii=False)
    return text


def from_infotext(params: Mapping[str, str]) -> dict[str, Any]:
    """Returns the field values that parsed infotext carries.

    Without our keys that is `enabled` False alone. With them, a text that is not written is empty
    and any other value the default. Images are not in infotext. A value that cannot be read is
    left out.
    """
    found: dict[str, Any] = {"enabled": False}
    if not any(_value(params, key) is not None for key in _KEYS.values() if key):
        return found
    for name, key in _KEYS.items():
        if key is None or _FIELDS[name].metadata.get("image"):
            continue
        field, value = _FIELDS[name], _value(params, key)
        with suppress(SettingsError):
            found[name] = field.default if value is None else read(field, value)
    return found


def _value(params: Mapping[str, str], key: str) -> str | None:
    """Returns what stood under a key; the WebUI parses what looks like "512x512" as two numbers."""
    sides = [params.get(f"{key}-{n}") for n in (1, 2)]
    if key not in params and None not in sides:
        return "x".join(str(side) for side in sides)
    return params.get(key)


def images_of(params: Mapping[str, str]) -> dict[Layer, str | None]:
    """Returns the layers whose images made the result, with the names they were kept under.

    The name is None where the infotext says only that there was an image. It may be any text.
    """
    found = from_infotext(params)
    if not found["enabled"] or "method" not in found:
        return {}
    hashes = {layer: params.get(_hash_key(layer)) for layer in found["method"].inputs}
    return {
        layer: name
        for layer, name in hashes.items()
        if name or params.get(_KEYS[f"{layer.value}_image"]) == "True"
    }


def _hash_key(layer: Layer) -> str:
    return f"{_KEYS[f'{layer.value}_image']}_hash"
