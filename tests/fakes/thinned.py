"""Parameters of which `make test` takes some, and `make slow` the rest."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def thinned(values: Iterable[Any], every: int) -> list[Any]:
    """Returns the values, all but each so-manieth marked as slow; a tuple is one test's values."""

    def slow(value: Any) -> Any:
        together = value if isinstance(value, tuple) else (value,)
        return pytest.param(*together, marks=pytest.mark.slow)

    return [slow(value) if n % every else value for n, value in enumerate(values)]
