"""The change map of Differential Diffusion: where it comes from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np

from ..errors import MissingLayerError, SettingsError
from .images import Picture, ResizeMode, as_rgba, fit, flatten
from .masks import Mask, MaskSource, alpha_mask, feather

MOST_FEATHER = 256.0
_GREY_SHARES = (0.299, 0.587, 0.114)  # ITU-R BT.601, as greyscale conversions have it.
_NAMES = ("enabled", "source", "feather", "picture")


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
        picture: The map as a picture, `h w 1|3|4`: white may change fully, black not at all.
    """

    enabled: bool = False
    source: MapSource = MapSource.MASK
    feather: float = 0.0
    picture: Picture | None = None

    @classmethod
    def from_args(
        cls, args: Sequence[Any], read_picture: Callable[[Any], Picture | None]
    ) -> ChangeMap:
        """Returns the choices for values in the fields' order, or for a dict by name.

        A dict means `enabled` unless it says otherwise. None and missing values give the defaults.

        Raises:
            SettingsError: A name or value cannot be used; `field` names it.
        """
        given = dict(zip(_NAMES, args, strict=False))
        if args and isinstance(args[0], Mapping):
            given = {"enabled": True, **args[0]}
        unknown = sorted(set(given) - set(_NAMES))
        if unknown:
            raise SettingsError(
                f"Expected a setting of Differential Diffusion, got {unknown[0]!r}.",
                f"Use one of: {', '.join(_NAMES)}.",
                field=unknown[0],
            )
        given = {name: value for name, value in given.items() if value is not None}
        if given.get("enabled", False) in (False, "False", "false"):
            return cls()
        return cls(
            True,
            _source(given.get("source", cls.source)),
            _feather(given.get("feather", cls.feather)),
            read_picture(given.get("picture")),
        )

    def of(self, init: Picture, mask: Mask | None) -> Mask:
        """Returns the map `h w` of an init picture, in [0, 1]: 1 may change fully, 0 not at all.

        Args:
            init: `h w 4`.
            mask: The inpaint mask, where there is one.

        Raises:
            MissingLayerError: The mask or picture that it comes from is missing.
            SettingsError: Nothing may change.
        """
        found = feather(self._source_map(init, mask), self.feather)
        if not found.any():
            raise SettingsError(
                "Expected a change map that lets something change, got a black one.",
                "White may change fully, black not at all.",
                field="picture",
            )
        return found

    def _source_map(self, init: Picture, mask: Mask | None) -> Mask:
        if self.source is MapSource.PICTURE:
            if self.picture is None:
                raise _missing("a picture for the change map", "Put one in its slot.", "picture")
            height, width = init.shape[:2]
            rgb = flatten(fit(as_rgba(self.picture), width, height, ResizeMode.STRETCH), 0.0)
            grey: Mask = (rgb @ np.asarray(_GREY_SHARES, np.float32)).clip(0, 1)
            return grey
        if self.source is MapSource.MASK:
            if mask is None:
                raise _missing("an inpaint mask", "Draw one, or choose another map.", "source")
            return mask
        return alpha_mask(init, MaskSource(self.source.value))


def _missing(what: str, hint: str, field: str) -> MissingLayerError:
    return MissingLayerError(f"Expected {what}, got none.", hint, field=field)


def _source(value: Any) -> MapSource:
    try:
        return MapSource(value)
    except ValueError:
        known = ", ".join(repr(source.value) for source in MapSource)
        raise SettingsError(
            f"Expected a known source, got {value!r}.", f"Use one of: {known}.", field="source"
        ) from None


def _feather(value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not 0 <= number <= MOST_FEATHER:
        raise SettingsError(
            f"Expected feather from 0 to {MOST_FEATHER:g}, got {value!r}.",
            "Bring it into that range.",
            field="feather",
        )
    return number
