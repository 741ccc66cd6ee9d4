"""Pastes an infotext into components as the WebUI does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import webui_infotext
from PIL import Image

reports: list[Exception] = []
registered_param_bindings: list[Any] = []


def paste(fields: Sequence[tuple[Any, Any]], text: str) -> dict[Any, Any]:
    """Returns the new values of the components that a paste changes.

    Args:
        fields: Components, each with a key or with what reads the parsed infotext.
        text: The infotext.
    """
    params = webui_infotext.parse(text)
    changed = {}
    for component, target in fields:
        value = _read(target, params)
        if isinstance(value, dict):  # An update.
            changed[component] = value["value"]
        elif value is not None:
            kind = type(component.value)
            try:
                changed[component] = _converted(kind, value)
            except (TypeError, ValueError):
                continue
    return changed


def parse_generation_parameters(x: str, skip_fields: list[str] | None = None) -> dict[str, str]:
    """Returns what an infotext says."""
    return webui_infotext.parse(x)


def image_from_url_text(filedata: Any) -> Any:
    """Returns the image of one item of a gallery's value: with a caption, or a file's."""
    if filedata is None:
        return None
    if isinstance(filedata[0], dict):
        with Image.open(filedata[0]["name"].rsplit("?", 1)[0]) as image:
            return image.copy()
    (image, _caption) = filedata[0]
    return image


def send_image_and_dimensions(x: Any) -> tuple[Any, Any, Any]:
    """Returns an image for another tab, with its size; one by itself, not in a gallery, is RGB."""
    image = x.convert("RGB") if isinstance(x, Image.Image) else image_from_url_text(x)
    return (None, None, None) if image is None else (image, image.width, image.height)


def _read(target: Any, params: dict[str, str]) -> Any:
    if not callable(target):
        return params.get(target)
    try:
        return target(params)
    except Exception as error:
        reports.append(error)
        return None


def _converted(kind: type, value: Any) -> Any:
    if kind is bool and value == "False":
        return False
    return float(value) if kind is int else kind(value)
