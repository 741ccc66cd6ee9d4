"""How many malformed inputs are drawn, and which."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random


@dataclass(frozen=True)
class Budget:
    """How much an area tries."""

    inputs: int
    seed: int
    seconds: float
    only: int | None = None

    def draws(self, area: str) -> Iterator[tuple[int, Random]]:
        """Yields each input's number and its generator, until the time is over."""
        end = time.monotonic() + self.seconds
        for number in range(self.inputs) if self.only is None else (self.only,):
            if time.monotonic() > end:
                return
            yield number, Random(f"{self.seed} {area} {number}")
