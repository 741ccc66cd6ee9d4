"""What programs are told of the settings and methods, and what is asked of a dict of settings.

The JSON Schema comes from the metadata of `LayerSettings`; `check` reads the same schema, so what
it says is what is accepted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, fields
from difflib import get_close_matches
from enum import Enum
from functools import cache
from typing import Any

from ..errors import SettingsError, shortened
from ..methods import DECODERS, METHODS, Layer, LayerMethod, WeightFile
from ..weights.store import WeightStore
from .layer_settings import LayerSettings, api_name

_TYPES = {"boolean": (bool,), "number": (int, float), "string": (str,)}
_JSON = (bool, int, float, str, Sequence, Mapping)
_ENABLED = {"default": True, "description": "A dict of settings switches the method on."}
_PICTURE = " As base64, a data URI, the path of a file in an output folder, or an allowed URL."


@cache
def settings_schema() -> dict[str, Any]:
    """Returns the JSON Schema (2020-12) of a dict of settings; null means the default."""
    properties = {f.metadata["api"]: _property(f) for f in fields(LayerSettings)}
    properties["enabled"] |= _ENABLED
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "LayerDiffuse settings",
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
    }


def _property(field: Field[Any]) -> dict[str, Any]:
    meta = field.metadata
    about = meta["about"] + (_PICTURE if meta.get("picture") else "")
    found = {"title": meta["label"], "description": about, "type": [meta["type"], "null"]}
    if "choices" in meta:
        found["enum"] = [*dict.fromkeys(meta["choices"]), None]
    if "bounds" in meta:
        found["minimum"], found["maximum"] = meta["bounds"]
    if field.default is not MISSING:
        found["default"] = _plain(field.default)
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, LayerMethod):
        return value.id
    return value.value if isinstance(value, Enum) else value


def check(given: Mapping[Any, Any]) -> None:
    """Checks a dict of settings against the schema; fields may go by their own names, too.

    A value that JSON has no type for, such as a picture in memory, is left to who reads it.

    Raises:
        SettingsError: A name is unknown or a value does not fit; `field` is the name as given.
    """
    properties = settings_schema()["properties"]
    for name, value in given.items():
        wanted = properties[api_name(name)]
        if value is not None and isinstance(value, _JSON):
            _check_value(str(name), value, wanted)


def _check_value(name: str, value: Any, wanted: Mapping[str, Any]) -> None:
    kind = wanted["type"][0]
    fits = isinstance(value, _TYPES[kind]) and isinstance(value, bool) == (kind == "boolean")
    if not fits:
        raise SettingsError(
            f"Expected a {kind} for {name}, got {shortened(value)}.",
            f"Send JSON's {kind}, or null for the default.",
            field=name,
        )
    if "enum" in wanted and value not in wanted["enum"]:
        choices = [choice for choice in wanted["enum"] if choice is not None]
        near = get_close_matches(value, choices, n=1)
        hint = f"Did you mean {near[0]!r}?" if near else f"Use one of: {', '.join(choices)}."
        raise SettingsError(
            f"Expected a {name} that there is, got {shortened(value)}.", hint, field=name
        )
    low, high = wanted.get("minimum"), wanted.get("maximum")
    if low is not None and not low <= value <= high:
        raise SettingsError(
            f"Expected {name} from {low:g} to {high:g}, got {shortened(value)}.",
            "Bring it into that range.",
            field=name,
        )


def methods_table(store: WeightStore) -> list[dict[str, Any]]:
    """Returns every method as plain values, with what is on disk of its files.

    Layers are given by name; `input_names` are the settings that take the pictures.
    """
    return [_row(method, store) for method in METHODS]


def _row(method: LayerMethod, store: WeightStore) -> dict[str, Any]:
    decoder = _file(DECODERS[method.arch], store) if method.decodes else None
    return {
        "id": method.id,
        "label": method.label,
        "arch": method.arch.value,
        "inputs": _names(method.inputs),
        "input_names": [api_name(f"{layer.value}_image") for layer in method.inputs],
        "outputs": _names(method.outputs),
        "frames": method.frames,
        "layer_prompts": _names(method.layer_prompts),
        "weights": _file(method.weights, store),
        "decoder": decoder,
    }


def _names(layers: Sequence[Layer]) -> list[str]:
    return [layer.value for layer in layers]


def _file(file: WeightFile, store: WeightStore) -> dict[str, Any]:
    """Returns a file's name, size in bytes (None if not known) and state on disk."""
    status = store.status(file)
    size = status.path.stat().st_size if status.path else file.size
    found = {"file": file.filename, "size": size, "present": status.usable}
    return found | {"state": status.state.value, "detail": status.detail}
