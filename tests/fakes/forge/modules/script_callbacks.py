"""Callbacks around the saving of a picture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from PIL import Image

before_saved: list[Callable[[Any], None]] = []
reports: list[Exception] = []


@dataclass
class ImageSaveParams:
    image: Image.Image
    p: Any
    filename: str
    pnginfo: dict[str, str]


def on_before_image_saved(callback: Callable[[ImageSaveParams], None]) -> None:
    before_saved.append(callback)


def before_image_saved_callback(params: ImageSaveParams) -> None:
    for callback in before_saved:
        try:
            callback(params)
        except Exception as error:
            reports.append(error)
