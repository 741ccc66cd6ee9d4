"""Components that keep what they were made with."""

from __future__ import annotations

from collections.abc import Callable
from functools import partialmethod
from types import SimpleNamespace
from typing import Any


class Component:
    def __init__(self, value: Any = None, **options: Any) -> None:
        self.value, self.options = value, options
        self.label: str | None = options.get("label")
        self.events: list[dict[str, Any]] = []

    def __enter__(self) -> Component:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def _listen(self, kind: str, fn: Callable[..., Any] | None, **event: Any) -> Component:
        self.events.append({"kind": kind, "fn": fn} | event)
        return self

    change = partialmethod(_listen, "change")
    click = partialmethod(_listen, "click")
    input = partialmethod(_listen, "input")
    load = partialmethod(_listen, "load")
    then = partialmethod(_listen, "then")


class Blocks(Component):
    pass


class Accordion(Component):
    pass


class Button(Component):
    pass


class Checkbox(Component):
    pass


class CheckboxGroup(Component):
    pass


class Dropdown(Component):
    pass


class File(Component):
    pass


class Gallery(Component):
    pass


class HTML(Component):
    pass


class Image(Component):
    def __init__(self, value: Any = None, *, sources: Any = None, format: str = "webp", **options):
        super().__init__(value, sources=sources, format=format, **options)


class Markdown(Component):
    pass


class Number(Component):
    pass


class Radio(Component):
    pass


class Row(Component):
    pass


class Slider(Component):
    pass


class Textbox(Component):
    pass


def update(**changes: Any) -> dict[str, Any]:
    return changes


notices: list[tuple[str, str]] = []


def Info(message: str) -> None:
    notices.append(("info", message))


def Warning(message: str) -> None:
    notices.append(("warning", message))


context = SimpleNamespace(Context=SimpleNamespace(root_block=None))
