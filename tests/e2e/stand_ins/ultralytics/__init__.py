"""A detector for ADetailer that finds one thing in the middle of every image."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from PIL import Image


class YOLO:
    """Finds a box of half the image's width and height; no weights are read."""

    def __init__(self, path: Any) -> None:
        """Takes the place of a model's file."""

    def __call__(self, image: Image.Image, **_: Any) -> list[Any]:
        """Returns what was found, in the fields that ADetailer reads."""
        width, height = image.size
        box = torch.tensor([[width // 4, height // 4, 3 * width // 4, 3 * height // 4]])
        found = SimpleNamespace(xyxy=box.float(), conf=torch.ones(1))
        drawn = np.asarray(image.convert("RGB"))[..., ::-1].copy()
        return [SimpleNamespace(boxes=found, masks=None, plot=lambda: drawn)]
