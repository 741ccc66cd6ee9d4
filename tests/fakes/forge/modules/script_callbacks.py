"""Callbacks: at the start, and around the saving of an image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from PIL import Image

before_saved: list[Callable[[Any], None]] = []
after_saved: list[Callable[[Any], None]] = []
app_started: list[Callable[[Any, Any], None]] = []
script_unloaded: list[Callable[[], None]] = []
before_ui: list[Callable[[], None]] = []
after_component: list[Callable[..., None]] = []
image_grid: list[Callable[[Any], None]] = []
reports: list[Exception] = []


@dataclass
class ImageSaveParams:
    image: Image.Image
    p: Any
    filename: str
    pnginfo: dict[str, str]


@dataclass
class ImageGridLoopParams:
    imgs: list[Image.Image]
    cols: int
    rows: int


def on_image_grid(callback: Callable[[ImageGridLoopParams], None]) -> None:
    image_grid.append(callback)


def image_grid_callback(params: ImageGridLoopParams) -> None:
    for callback in image_grid:
        try:
            callback(params)
        except Exception as error:
            reports.append(error)


def on_before_image_saved(callback: Callable[[ImageSaveParams], None]) -> None:
    before_saved.append(callback)


def on_image_saved(callback: Callable[[ImageSaveParams], None]) -> None:
    after_saved.append(callback)


def on_app_started(callback: Callable[[Any, Any], None]) -> None:
    app_started.append(callback)


def on_script_unloaded(callback: Callable[[], None]) -> None:
    script_unloaded.append(callback)


def on_before_ui(callback: Callable[[], None]) -> None:
    before_ui.append(callback)


def on_after_component(callback: Callable[..., None]) -> None:
    after_component.append(callback)


def clear_callbacks() -> None:
    """Forgets all, as before scripts are loaded again."""
    for unloaded in script_unloaded:
        unloaded()
    for callbacks in (
        before_saved,
        app_started,
        script_unloaded,
        before_ui,
        after_component,
        image_grid,
    ):
        callbacks.clear()


def before_image_saved_callback(params: ImageSaveParams) -> None:
    _call(before_saved, params)


def image_saved_callback(params: ImageSaveParams) -> None:
    _call(after_saved, params)


def _call(callbacks: list[Callable[[Any], None]], params: ImageSaveParams) -> None:
    for callback in callbacks:
        try:
            callback(params)
        except Exception as error:
            reports.append(error)
