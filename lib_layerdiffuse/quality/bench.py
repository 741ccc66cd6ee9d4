"""A codec measured on transparent images: what it keeps, and what a decoder's setting changes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from statistics import median

import numpy as np
import torch
from torch import Tensor

from ..codec.transparent import OFFSET_STRENGTH, TransparentDecoder
from ..errors import CodecError, first_line
from ..hosts.diffusers import DiffusersHost
from ..imaging.images import FloatImage, from_u8, to_u8
from ..methods import Arch
from ..pipeline import Session
from .decoder_settings import DecoderSetting
from .measures import DIFFERENCES, MEASURES, measured
from .pictures import Picture
from .round_trip import hidden
from .summaries import Summary, summarised

Figures = dict[str, float]
"""Values by measure."""


@dataclass
class Outcome:
    """What one setting of the decoder came to.

    Attributes:
        setting: It.
        kept: The figures against the truth, by image.
        apart: The figures against the reference's result, by image; empty for the reference.
        seconds: How long the decoder took, by image.
    """

    setting: DecoderSetting
    kept: dict[str, Figures] = field(default_factory=dict)
    apart: dict[str, Figures] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def kept_summary(self) -> list[Summary]:
        """The figures against the truth, over all images."""
        return summarised(MEASURES, self.kept)

    @property
    def apart_summary(self) -> list[Summary]:
        """The figures against the reference, over all images; none for the reference."""
        return summarised((*DIFFERENCES, *MEASURES), self.apart) if self.apart else []

    @property
    def usual_seconds(self) -> float:
        """The median over the images; NaN for none."""
        return median(self.seconds.values()) if self.seconds else math.nan


class Bench:
    """Measures one checkpoint's codec.

    Args:
        host: The checkpoint.
        session: Where its encoder and decoder come from.
        arch: Its family.
        strength: Factor of the encoder's offset.
    """

    def __init__(
        self,
        host: DiffusersHost,
        session: Session,
        arch: Arch,
        strength: float = OFFSET_STRENGTH,
    ) -> None:
        self.host, self.session, self.arch, self.strength = host, session, arch, strength
        self._decoders: dict[str, TransparentDecoder] = {}

    def run(
        self,
        pictures: Iterable[Picture],
        settings: Sequence[DecoderSetting],
        tell: Callable[[int], object] | None = None,
    ) -> list[Outcome]:
        """Returns what each setting came to.

        Args:
            pictures: The images; no two have one name.
            settings: The first one is the reference of the others.
            tell: Told how many images are done.

        Raises:
            CodecError: The codec has no result for an image.
        """
        outcomes = [Outcome(setting) for setting in settings]
        for done, picture in enumerate(pictures, start=1):
            self._measure(picture, outcomes)
            if tell is not None:
                tell(done)
        return outcomes

    def _measure(self, picture: Picture, outcomes: Sequence[Outcome]) -> None:
        seen = hidden(self.host, self.session, self.arch, picture.rgba, self.strength)
        reference: FloatImage | None = None
        for outcome in outcomes:
            begun = time.perf_counter()
            result = self._decoded(picture.name, outcome.setting, *seen)
            outcome.seconds[picture.name] = time.perf_counter() - begun
            saved = from_u8(to_u8(result))
            outcome.kept[picture.name] = measured(saved, picture.rgba)
            if reference is None:
                reference = result
                continue
            outcome.apart[picture.name] = {
                **measured(result, reference, DIFFERENCES),
                **measured(saved, from_u8(to_u8(reference))),
            }

    def _decoded(
        self, name: str, setting: DecoderSetting, pixels: Tensor, latent: Tensor
    ) -> FloatImage:
        try:
            decoder = self._decoder(setting.dtype)
            held = decoder.held(pixels.shape[-2] * pixels.shape[-1])
            free = self.host.place(decoder.net, held, getattr(torch, setting.dtype))
            rgba = decoder.decode(
                pixels[None], latent[None], views=setting.views, tile=setting.tile, free=free
            )
            return np.ascontiguousarray(rgba[0].permute(1, 2, 0).cpu().numpy())
        except (RuntimeError, MemoryError) as error:
            raise CodecError(
                f"The decoder has no result for {name} with {setting.name}: {first_line(error)}.",
                "Leave that setting out, or choose a smaller size.",
            ) from error

    def _decoder(self, dtype: str) -> TransparentDecoder:
        """Returns a decoder of its own for each type: a network is not the same on the way back."""
        if dtype not in self._decoders:
            net = deepcopy(self.session.decoder(self.arch).net)
            self._decoders[dtype] = TransparentDecoder(net)
        return self._decoders[dtype]
