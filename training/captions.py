"""The text of every scene as the UNet takes it, computed once with the trained text encoders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lib_layerdiffuse.methods import Arch

from .base import Model


class Texts:
    """Contexts of all distinct captions, float16, by number.

    Args:
        model: A trained model.
        captions: All captions that may be asked for; the empty one is added as number 0.
    """

    @torch.no_grad()
    def __init__(self, model: Model, captions: Sequence[str]) -> None:
        distinct = ["", *dict.fromkeys(captions)]
        self.number = {caption: i for i, caption in enumerate(distinct)}
        hidden, pooled = [], []
        for start in range(0, len(distinct), 256):
            made = model.context(model.tokens(distinct[start : start + 256]))
            hidden.append(made["encoder_hidden_states"].half())
            added = made.get("added_cond_kwargs")
            if added is not None:
                pooled.append(added["text_embeds"])
        self.hidden = torch.cat(hidden)
        self.pooled = torch.cat(pooled) if pooled else None
        self.sizes = None if self.pooled is None else added["time_ids"][:1]

    def numbers(self, captions: Sequence[str]) -> Tensor:
        """Returns the captions' numbers."""
        return torch.tensor([self.number[caption] for caption in captions])

    def context(self, numbers: Tensor) -> dict[str, Any]:
        """Returns the UNet's arguments for captions by number."""
        made: dict[str, Any] = {"encoder_hidden_states": self.hidden[numbers].float()}
        if self.pooled is not None and self.sizes is not None:
            sizes = self.sizes.expand(len(numbers), -1)
            made["added_cond_kwargs"] = {"text_embeds": self.pooled[numbers], "time_ids": sizes}
        return made


def load_model(arch: Arch, data: Path) -> Model:
    """Returns the trained base model of a family, frozen, with its VAE."""
    from diffusers import DiffusionPipeline

    saved = DiffusionPipeline.from_pretrained(data / arch.name.lower(), torch_dtype=torch.float32)
    return Model(arch, saved).requires_grad_(False).eval()
