"""Images in tiles, and the bar on a node."""

from __future__ import annotations

from image_tiles import tiled_scale

__all__ = ["ProgressBar", "tiled_scale"]


class ProgressBar:
    def __init__(self, total: int, node_id: str | None = None) -> None:
        self.total, self.current = total, 0

    def update_absolute(self, value: int, total: int | None = None, preview: object = None) -> None:
        self.total, self.current = total or self.total, value
