"""The server, which shows each prompt to those who want to see it, and has their addresses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Routes:
    """Its addresses, as aiohttp's table takes them."""

    def __init__(self) -> None:
        self.handlers: dict[str, Callable[[Any], Any]] = {}

    def get(self, path: str) -> Callable[[Any], Any]:
        def keep(handler: Callable[[Any], Any]) -> Callable[[Any], Any]:
            self.handlers[path] = handler
            return handler

        return keep


class PromptServer:
    instance: PromptServer

    def __init__(self) -> None:
        self.on_prompt_handlers: list[Callable[[Any], Any]] = []
        self.routes = Routes()

    def add_on_prompt_handler(self, handler: Callable[[Any], Any]) -> None:
        self.on_prompt_handlers.append(handler)


PromptServer.instance = PromptServer()
