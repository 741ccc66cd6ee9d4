"""Figures of many images as one row each: the mean, and the image that did worst."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .measures import Measure


@dataclass(frozen=True)
class Summary:
    """One figure over all images that it could be taken of.

    Attributes:
        measure: Which.
        mean: Over these images; NaN for none.
        worst: The value that is furthest from the ideal; NaN for none.
        worst_image: Whose it is.
        count: How many images there were.
    """

    measure: Measure
    mean: float
    worst: float
    worst_image: str
    count: int

    def as_dict(self) -> dict[str, Any]:
        """Returns it for JSON, where a number that is not there is null."""
        named = {"id": self.measure.id, "name": self.measure.name, "ideal": self.measure.ideal}
        numbers = {"mean": number(self.mean), "worst": number(self.worst)}
        return {**named, **numbers, "worst_image": self.worst_image, "count": self.count}


def number(value: float) -> float | None:
    """Returns a number as JSON can hold it."""
    return value if math.isfinite(value) else None


def summarised(
    measures: Sequence[Measure], figures: Mapping[str, Mapping[str, float]]
) -> list[Summary]:
    """Returns one summary for each measure.

    Args:
        measures: Which.
        figures: The values by image and measure.
    """
    return [_summary(measure, figures) for measure in measures]


def _summary(measure: Measure, figures: Mapping[str, Mapping[str, float]]) -> Summary:
    there = {
        image: values[measure.id]
        for image, values in figures.items()
        if not math.isnan(values[measure.id])
    }
    if not there:
        return Summary(measure, math.nan, math.nan, "", 0)
    worst = max(there, key=lambda image: abs(there[image] - measure.ideal))
    return Summary(measure, sum(there.values()) / len(there), there[worst], worst, len(there))
