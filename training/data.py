"""The training images: scenes drawn once and kept as memory-mapped arrays."""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lib_layerdiffuse.imaging.images import from_u8, to_u8
from lib_layerdiffuse.tiny import scenes
from lib_layerdiffuse.tiny.shapes import SIDE


@dataclass(frozen=True)
class Scenes:
    """Scenes on disk.

    Attributes:
        fg: `n H W 4` uint8, straight alpha, colour padded.
        bg: `n H W 3` uint8.
        captions: (subject's, background's) by scene.
    """

    fg: npt.NDArray[np.uint8]
    bg: npt.NDArray[np.uint8]
    captions: list[tuple[str, str]]

    @classmethod
    def open(cls, folder: Path) -> Scenes:
        """Returns the scenes that `draw` left in a folder."""
        captions = json.loads((folder / "scenes.json").read_text("utf-8"))
        fg = np.load(folder / "scenes_fg.npy", mmap_mode="r")
        bg = np.load(folder / "scenes_bg.npy", mmap_mode="r")
        return cls(fg, bg, [tuple(pair) for pair in captions])

    def __len__(self) -> int:
        return len(self.captions)

    def layers(self, indices: npt.NDArray[Any]) -> tuple[Tensor, Tensor]:
        """Returns foregrounds `b 4 H W` (R G B A, straight) and backgrounds `b 3 H W` in [0, 1].

        The rows come in ascending order of their indices.
        """
        order = np.sort(indices)
        return tuple(
            torch.from_numpy(from_u8(np.asarray(array[order]))).permute(0, 3, 1, 2)
            for array in (self.fg, self.bg)
        )


def over(fg: Tensor, bg: Tensor | float) -> Tensor:
    """Returns the true composite `b 3 H W` of a straight `b 4 H W` over an image or a grey."""
    alpha = fg[:, 3:]
    return fg[:, :3] * alpha + bg * (1 - alpha)


def draw(count: int, folder: Path) -> None:
    """Draws scenes from the pairs of kind and colour that are not held out."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays = [
        np.lib.format.open_memmap(
            folder / f"scenes_{name}.npy", mode="w+", dtype=np.uint8, shape=(count, SIDE, SIDE, c)
        )
        for name, c in (("fg", 4), ("bg", 3))
    ]
    captions = []
    for seed in range(count):
        scene = scenes.scene(seed, SIDE)
        arrays[0][seed], arrays[1][seed] = to_u8(scene.fg), to_u8(scene.bg)
        captions.append((scene.subject.caption, scene.background))
    for array in arrays:
        array.flush()
    (folder / "scenes.json").write_text(json.dumps(captions), "utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=24000)
    parser.add_argument("--data", type=Path, default=Path("out/training"))
    options = parser.parse_args()
    cv2.setNumThreads(1)
    draw(options.count, options.data)
