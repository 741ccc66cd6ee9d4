"""The ways to run the transparent decoder that are compared, and their short names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..codec.views import ADAPTIVE, Views
from ..errors import SettingsError, shortened, unknown_name

DTYPES = ("float32", "float16", "bfloat16")


@dataclass(frozen=True)
class DecoderSetting:
    """One way to run the decoder; the default is what the others are compared with.

    Attributes:
        views: How many of the eight views to take, or "adaptive".
        dtype: The type to compute in.
        tile: Pixels of the sides of the image's parts; None for the whole.
    """

    views: Views = 8
    dtype: str = "float32"
    tile: int | None = None

    @property
    def name(self) -> str:
        """Such as "8 views, float32" or "1 view, float16, parts of 256"."""
        views = f"{self.views} view{'' if self.views == 1 else 's'}"
        return f"{views}, {self.dtype}" + (f", parts of {self.tile}" if self.tile else "")

    def as_dict(self) -> dict[str, Any]:
        """Returns it for JSON."""
        return dict(vars(self))


def _views(text: str) -> Views:
    if text == ADAPTIVE:
        return ADAPTIVE
    try:
        return _whole(1, 8)(text)
    except ValueError as error:
        raise ValueError(f"{ADAPTIVE} or {error}") from error


def _whole(low: int, high: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not (text.isascii() and text.isdecimal()) or not low <= int(text[:9]) <= high:
            raise ValueError(f"a whole number from {low} to {high}")
        return int(text)

    return read


def _dtype(text: str) -> str:
    if text not in DTYPES:
        raise ValueError(" or ".join(DTYPES))
    return text


_READERS: Mapping[str, Callable[[str], Any]] = {
    "views": _views,
    "dtype": _dtype,
    "tile": _whole(64, 8192),
}
"""What reads each part of a setting; it says by a ValueError what it takes."""


def read_decoder_setting(text: str) -> DecoderSetting:
    """Returns the setting that a text such as "views=4,dtype=bfloat16" describes.

    What it leaves out is as in the default.

    Raises:
        SettingsError: It describes none.
    """
    given: dict[str, Any] = {}
    for part in text.lower().split(","):
        name, _, value = (x.strip() for x in part.partition("="))
        if name not in _READERS:
            raise unknown_name("part of a decoder's setting", name, {x: x for x in _READERS})
        try:
            given[name] = _READERS[name](value)
        except ValueError as error:
            raise SettingsError(
                f"{name} is {error}, but was given as {shortened(value)}.",
                "Write a setting such as views=4,dtype=bfloat16.",
            ) from error
    return DecoderSetting(**given)
