"""One batch of a job: what its passes leave behind for the rows that are decoded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from ...host import Attachment, Injection
from ...imaging.masks import Mask
from ...methods import Layer


@dataclass(eq=False)
class Batch:
    """What one batch keeps between hooks; the next one begins with a new one.

    Attributes:
        injection: What the current pass injects, and which pass of which size that is.
        pending: The injection of the coming pass, until its sampler starts.
        attachment: The injection of the current pass.
        second_pass: The latents of hires fix's second pass `b 4 h w`, sampler's scale.
        vae_latents: The latents `b 4 h w`, VAE's scale.
        pixels: The images as the VAE decoded them, `b 3 H W` in [0, 1].
        rows: For each image the row that it came from; None for one that another extension has
            put in.
        overlay: How much of the init image the host would lay over the current row's image,
            `h w` in [0, 1]; None for nothing.
        layers: The current set's layers so far.
        prompted: Whether its rows have their layers' prompts.
        stopped: Whether the user stopped it before its last step.
    """

    injection: tuple[Any, Injection] | None = None
    pending: Injection | None = None
    attachment: Attachment | None = None
    second_pass: Tensor | None = None
    vae_latents: Tensor | None = None
    pixels: Tensor | None = None
    rows: list[int | None] = field(default_factory=list)
    overlay: Mask | None = None
    layers: dict[Layer, Image.Image] = field(default_factory=dict)
    prompted: bool = False
    stopped: bool = False

    def detach(self) -> None:
        """Ends the injection of the pass that was last, if it has not ended."""
        attachment, self.attachment = self.attachment, None
        if attachment is not None:
            attachment.detach()

    def pair(self, images: Sequence[Tensor]) -> None:
        """Notes which row of the batch each image comes from.

        Args:
            images: What another extension may have taken from, added to, or edited, `3 H W` each.
        """
        made = [] if self.pixels is None else list(self.pixels)
        same_number = len(images) == len(made)
        self.rows = [
            _row_of(image, made, place if same_number else None)
            for place, image in enumerate(images)
        ]

    def row(self, batch_index: int) -> int | None:
        """Returns the row that an image comes from, or None."""
        return self.rows[batch_index] if batch_index < len(self.rows) else None

    def decoded(self, row: int) -> npt.NDArray[np.uint8]:
        """Returns a row's image `H W 3` as the VAE made it and the host truncates it."""
        assert self.pixels is not None
        pixels_u8: npt.NDArray[np.uint8] = (
            255.0 * self.pixels[row].float().cpu().movedim(0, 2).numpy()
        ).astype(np.uint8)
        return pixels_u8


def _row_of(image: Tensor, made: Sequence[Tensor], place: int | None) -> int | None:
    """Returns which row an image is; the one at its place, if any, where it has been edited."""
    rows = range(len(made)) if place is None else (place, *range(len(made)))
    return next((row for row in rows if torch.equal(made[row], image)), place)
