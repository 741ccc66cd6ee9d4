"""Checkpoints on disk; a test sets its own."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class CheckpointInfo:
    filename: str


checkpoints: dict[str, CheckpointInfo] = {}


def get_closet_checkpoint_match(search_string: str) -> CheckpointInfo | None:
    return checkpoints.get(search_string)
