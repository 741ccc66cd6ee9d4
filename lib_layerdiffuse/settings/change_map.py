"""The change map of Differential Diffusion: where it comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from enum import Enum
from typing import Any

import numpy as np

from ..errors import MissingLayerError, SettingsError
from ..imaging.images import FloatImage, ResizeMode, as_rgba, fit, flatten
from ..imaging.masks import Mask, MaskSource, alpha_mask, feather
from .fields import ReadImage, merged, read, setting

_GREY_SHARES = (0.299, 0.587, 0.114)  # ITU-R BT.601, as greyscale conversions have it.


class MapSource(str, Enum):
    """Where a change map comes from; the value is what the panel calls it."""

    MASK = "Inpaint mask"
    VISIBLE = MaskSource.VISIBLE.value
    TRANSPARENT = MaskSource.TRANSPARENT.value
    PICTURE = "Picture"


@dataclass(frozen=True, eq=False)
class ChangeMap:
    """The user's choices.

    Attributes:
        enabled: Whether Differential Diffusion is on.
        source: Where the map comes from.
        feather: Deviation in pixels of the Gaussian that softens it.
        image: The map as an image, `h w 1|3|4`: white may change fully, black not at all.
    """

    enabled: bool = setting(
        False,
        "enabled",
        "Enabled",
        "Whether a map says how much may change.",
        infotext="Differential Diffusion",
    )
    source: MapSource = setting(
        MapSource.MASK,
        "source",
        "Change map",
        "Where the map comes from.",
        choices={source.value: source for source in MapSource},
        infotext="Change map",
    )
    feather: float = setting(
        0.0,
        "feather",
        "Feather",
        "Softens the map by so many pixels.",
        bounds=(0.0, 256.0),
        infotext="Change map feather",
    )
    picture: FloatImage | None = setting(
        None,
        "picture",
        "Map",
        "White may change fully, black not at all.",
        image=True,
        infotext="Change map hash",
    )

    @classmethod
    def from_args(cls, args: Sequence[Any], read_image: ReadImage) -> ChangeMap:
        """Returns the choices for positional values, a dict by name, or a mix of both.

        Where it is off, nothing else is read.

        Args:
            args: As in `merged`.
            read_image: Turns what the front end hands over into an image.

        Raises:
            SettingsError: A name is unknown or a value cannot be used; `field` names it.
        """
        given, _ = merged(cls, args)
        if not read(_FIELDS["enabled"], given.get("enabled", False)):
            return cls()
        return cls(**{k: read(_FIELDS[k], value, read_image) for k, value in given.items()})

    def of(self, init: FloatImage, mask: Mask | None) -> Mask:
        """Returns the map `h w` of an init image, in [0, 1]: 1 may change fully, 0 not at all.

        Args:
            init: `h w 4`.
            mask: The inpaint mask, where there is one.

        Raises:
            MissingLayerError: The mask or image that it comes from is missing.
            SettingsError: Nothing may change.
        """
        found = feather(self._source_map(init, mask), self.feather)
        if not found.any():
            raise SettingsError(
                "The change map is black, so nothing may change.",
                "Paint white what may change fully, and grey what may change a little.",
                field="picture",
            )
        return found

    def _source_map(self, init: FloatImage, mask: Mask | None) -> Mask:
        if self.source is MapSource.PICTURE:
            if self.picture is None:
                raise MissingLayerError(
                    "Differential Diffusion needs an image for its change map.",
                    "Put one in the Map slot, or choose another change map.",
                    field="picture",
                )
            height, width = init.shape[:2]
            rgb = flatten(fit(as_rgba(self.picture), width, height, ResizeMode.STRETCH), 0.0)
            grey: Mask = (rgb @ np.asarray(_GREY_SHARES, np.float32)).clip(0, 1)
            return grey
        if self.source is MapSource.MASK:
            if mask is None:
                raise MissingLayerError(
                    "Differential Diffusion needs an inpaint mask.",
                    "Draw one, or choose another change map.",
                    field="source",
                )
            return mask
        return alpha_mask(init, MaskSource(self.source.value))


_FIELDS = {f.name: f for f in fields(ChangeMap)}
