"""What is tried in turn where a codec's or VAE's network overflows or does not fit into memory."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import TypeVar

import torch

from ..errors import CodecError, OverflowsError
from ..nets.full_memory import is_memory_error, let_go
from .views import Views

TILES = (512, 256)
"""Pixels of the sides of an image's parts, where the whole does not fit."""

_FULL = "the memory was full"
_DIFFERS = "the result may differ a little"

Result = TypeVar("Result")


@dataclass(frozen=True)
class Attempt:
    """One way to run a network.

    Attributes:
        dtype: The type to compute in; None for the host's choice.
        tile: Pixels of the sides of the image's parts; None for the whole.
        views: How many views the decoder takes.
    """

    dtype: torch.dtype | None = None
    tile: int | None = None
    views: Views = 1

    def pixels(self, height: int, width: int) -> int:
        """Returns how many pixels of an image the network sees at once."""
        side = self.tile or max(height, width)
        return min(height, side) * min(width, side)

    def after_overflow(self, dtype: torch.dtype, longest: int) -> Attempt | None:
        """Returns what to try after the result held NaN or infinity; None for nothing more.

        Args:
            dtype: What was computed in.
            longest: The image's longer side in pixels.
        """
        if dtype is not torch.float32:
            return replace(self, dtype=torch.float32)
        return self.after_full_memory(longest)

    def after_full_memory(self, longest: int) -> Attempt | None:
        """Returns what to try in less memory; None for nothing more."""
        largest = min(longest, self.tile or longest)
        smaller = [tile for tile in TILES if tile < largest]
        if smaller:
            return replace(self, tile=smaller[0])
        return replace(self, views=1) if self.views != 1 else None

    def told_after(self, before: Attempt, network: str, *, overflowed: bool = False) -> str:
        """Returns what the user should know of this attempt, a sentence without a capital.

        Args:
            before: The one that failed.
            network: As in `climb`.
            overflowed: Whether that was for its numbers, not for want of memory.
        """
        if self.dtype is not before.dtype:
            return f"the {network} overflowed in half precision, so it computed in float32."
        why = f"the {network} overflowed, so it" if overflowed else f"{_FULL}, so the {network}"
        if self.tile != before.tile:
            return f"{why} took the image in parts of {self.tile} pixels; {_DIFFERS}."
        return f"{why} took a single view; edges are rougher."


def climb(
    first: Attempt,
    run: Callable[[Attempt], Result],
    *,
    network: str,
    longest: int,
    computed_in: Callable[[], torch.dtype],
    memory_errors: Collection[type[BaseException]] = (),
    on_retry: Callable[[str], None] | None = None,
) -> Result:
    """Returns the result of the first attempt that has one.

    Args:
        first: What to try first.
        run: Makes one attempt.
        network: What it is called, such as "transparent decoder" or "VAE".
        longest: The image's longer side in pixels.
        computed_in: Returns the type that the last attempt computed in.
        memory_errors: The host's types of errors that say that memory is full.
        on_retry: Told what was changed after an attempt failed, a sentence for the user.

    Raises:
        CodecError: No attempt has one.
    """
    attempt = first
    while True:
        try:
            return run(attempt)
        except OverflowsError as error:
            failed: Exception = error
            following = attempt.after_overflow(computed_in(), longest)
        except Exception as error:
            if not is_memory_error(error, memory_errors):
                raise
            failed = error
            following = attempt.after_full_memory(longest)
        let_go(failed)
        if following is None:
            if isinstance(failed, OverflowsError):
                raise failed
            raise _full(network) from failed
        if on_retry is not None:
            overflowed = isinstance(failed, OverflowsError)
            on_retry(following.told_after(attempt, network, overflowed=overflowed))
        attempt = following
        del failed


def _full(network: str) -> CodecError:
    return CodecError(
        f"The memory is full: the {network} does not fit, not even for parts of the image.",
        "Close other programs that use the device, or choose a smaller size.",
    )
