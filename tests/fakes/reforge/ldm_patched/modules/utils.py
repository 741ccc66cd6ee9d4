"""Images in tiles."""

from image_tiles import tiled_scale

__all__ = ["tiled_scale"]
