"""Sheets of samples, to be looked at while training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from torch import Tensor

from lib_layerdiffuse.imaging.images import to_u8
from lib_layerdiffuse.imaging.png import png_bytes


def write_sheet(path: Path, rows: Sequence[Tensor], zoom: int = 2) -> None:
    """Writes rows of images, `b 3 H W` in [0, 1], as one PNG."""
    lines = [np.concatenate(list(row.permute(0, 2, 3, 1).float().numpy()), axis=1) for row in rows]
    sheet = to_u8(np.concatenate(lines))
    shape = (zoom * sheet.shape[1], zoom * sheet.shape[0])
    large = cv2.resize(sheet, shape, interpolation=cv2.INTER_NEAREST)
    path.write_bytes(png_bytes(large))
