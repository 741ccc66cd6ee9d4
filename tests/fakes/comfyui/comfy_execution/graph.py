"""What a node gives to end the way of one of its outputs."""

from __future__ import annotations


class ExecutionBlocker:
    def __init__(self, message: str | None) -> None:
        self.message = message
