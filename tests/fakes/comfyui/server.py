"""The server, which shows each prompt to those who want to see it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class PromptServer:
    instance: PromptServer

    def __init__(self) -> None:
        self.on_prompt_handlers: list[Callable[[Any], Any]] = []

    def add_on_prompt_handler(self, handler: Callable[[Any], Any]) -> None:
        self.on_prompt_handlers.append(handler)


PromptServer.instance = PromptServer()
