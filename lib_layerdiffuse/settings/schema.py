"""What programs are told of the settings and methods.

The JSON Schema comes from the same metadata that values are read by, so what it says is what is
accepted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import MISSING, Field, fields
from enum import Enum
from functools import cache
from typing import Any

from ..methods import DECODERS, METHODS, Layer, LayerMethod
from ..released import WeightFile
from ..weights.store import WeightStore
from .fields import IMAGE_TEXT
from .layer_settings import LayerSettings, api_name

_ENABLED = {"default": True, "description": "A dict of settings switches the method on."}


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
    about = meta["about"] + (f" As {IMAGE_TEXT}." if meta.get("image") else "")
    found = {"title": meta["label"], "description": about, "type": [meta["type"], "null"]}
    if "choices" in meta:
        found["enum"] = [*meta["choices"], None]
    if "bounds" in meta:
        found["minimum"], found["maximum"] = meta["bounds"]
    if field.default is not MISSING:
        found["default"] = _plain(field.default)
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, LayerMethod):
        return value.id
    return value.value if isinstance(value, Enum) else value


def methods_table(store: WeightStore) -> list[dict[str, Any]]:
    """Returns every method as plain values, with what is on disk of its files.

    Layers are given by name; `input_names` are the settings that take the images.
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
