"""Batches of the layer methods: latents of each frame, conditioning latents and captions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lib_layerdiffuse.methods import Layer, LayerMethod

from . import latents
from .captions import Texts
from .data import Scenes, over

NO_CAPTION = 0.1
SAME_CAPTION = 0.3
"""Share of sets whose frames all have the whole scene's caption."""
_TARGETS = {Layer.FG: "fg", Layer.BG: "bg", Layer.BLENDED: "blended"}
_CONDITIONS = {Layer.FG: "grey", Layer.BG: "bg", Layer.BLENDED: "blended"}


def caption(layer: Layer, subject: str, background: str) -> str:
    """Returns what a layer shows."""
    own = {Layer.FG: subject, Layer.BG: background, Layer.BLENDED: f"{subject}, {background}"}
    return own[layer]


@dataclass(frozen=True)
class Batch:
    """Rows are (set, frame), the frame fastest.

    Attributes:
        clean: Latents `(b f) 4 h w`, sampler's scale.
        context: The UNet's arguments for the captions.
        concat: Conditioning latents `b 4n h w` of a method with concat channels.
        control: Conditioning image `b 3 H W` in [-1, 1] of a sharing method with one.
    """

    clean: Tensor
    context: dict[str, Any]
    concat: Tensor | None
    control: Tensor | None


class Batches:
    """Draws batches for one method.

    Args:
        method: The layer method.
        data: Folder of the scenes and their latents.
        texts: Contexts of all captions that the scenes have.
        seed: Of the draws.
    """

    def __init__(self, method: LayerMethod, data: Path, texts: Texts, seed: int = 0) -> None:
        self.method, self.texts = method, texts
        self.scenes = Scenes.open(data)
        self.rng = np.random.default_rng(seed)
        self.targets = [latents.load(data, _TARGETS[layer]) for layer in method.outputs]
        self.conditions = [latents.load(data, _CONDITIONS[layer]) for layer in method.inputs]
        self.own = [self._numbers(layer) for layer in method.outputs]
        self.whole = self._numbers(Layer.BLENDED)

    def draw(self, sets: int) -> Batch:
        """Returns a batch of so many sets."""
        rows = np.sort(self.rng.integers(len(self.scenes), size=sets))
        clean = torch.stack([target[rows] for target in self.targets], dim=1)
        own = torch.stack([numbers[rows] for numbers in self.own], dim=1)
        same, none = (
            torch.from_numpy(self.rng.random((sets, 1)) < share)
            for share in (SAME_CAPTION, NO_CAPTION)
        )
        numbers = torch.where(same, self.whole[rows].unsqueeze(1), own).masked_fill(none, 0)
        concat = control = None
        if self.method.uses_control:
            control = self._image(rows) * 2 - 1
        elif self.conditions:
            concat = torch.cat([condition[rows] for condition in self.conditions], dim=1).float()
        return Batch(
            clean.flatten(0, 1).float(), self.texts.context(numbers.flatten()), concat, control
        )

    def _numbers(self, layer: Layer) -> Tensor:
        return self.texts.numbers([caption(layer, *pair) for pair in self.scenes.captions])

    def _image(self, rows: Any) -> Tensor:
        fg, bg = self.scenes.layers(rows)
        return over(fg, 0.5) if self.method.inputs == (Layer.FG,) else bg
