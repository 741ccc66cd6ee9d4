"""What a bench found, as Markdown for people and as JSON for programs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .bench import Outcome
from .measures import DEFINITIONS
from .summaries import Summary, number


@dataclass(frozen=True)
class Subject:
    """What was measured.

    Attributes:
        checkpoint: Its name.
        family: Such as "SD1.5".
        strength: Factor of the encoder's offset.
        pictures: How many images there were.
        source: Where they come from, such as "drawn".
        size: Their width and height.
    """

    checkpoint: str
    family: str
    strength: float
    pictures: int
    source: str
    size: tuple[int, int]

    def as_dict(self) -> dict[str, Any]:
        """Returns it for JSON."""
        return dict(vars(self))


def as_json(
    subject: Subject, outcomes: Sequence[Outcome], kinds: Mapping[str, str]
) -> dict[str, Any]:
    """Returns everything that was found, with each image's own figures.

    Args:
        subject: What was measured.
        outcomes: What came of it, the reference first.
        kinds: The images' kinds, by name.
    """
    return {
        "subject": subject.as_dict(),
        "definitions": dict(DEFINITIONS),
        "settings": [_outcome_as_dict(one, kinds) for one in outcomes],
    }


def _outcome_as_dict(outcome: Outcome, kinds: Mapping[str, str]) -> dict[str, Any]:
    return {
        "setting": outcome.setting.as_dict(),
        "seconds": number(outcome.usual_seconds),
        "against_truth": [one.as_dict() for one in outcome.kept_summary],
        "against_reference": [one.as_dict() for one in outcome.apart_summary],
        "images": [
            {
                "name": name,
                "kind": kinds.get(name, ""),
                "seconds": outcome.seconds[name],
                "against_truth": _finite(figures),
                "against_reference": _finite(outcome.apart.get(name, {})),
            }
            for name, figures in outcome.kept.items()
        ],
    }


def _finite(figures: Mapping[str, float]) -> dict[str, float | None]:
    return {id: number(value) for id, value in figures.items()}


def as_markdown(subject: Subject, outcomes: Sequence[Outcome]) -> str:
    """Returns tables for each comparison, and what their figures are.

    Args:
        subject: What was measured.
        outcomes: What came of it, the reference first.
    """
    return "\n".join(_lines(subject, outcomes)) + "\n"


def _lines(subject: Subject, outcomes: Sequence[Outcome]) -> Iterator[str]:
    reference, *others = outcomes
    width, height = subject.size
    yield (
        f"{_counted(subject.pictures)}, {subject.source}, {width}×{height}; {subject.checkpoint} "
        f"({subject.family}), strength {subject.strength:g}. Each figure is the mean over the "
        "images that have one, and in brackets the worst."
    )
    yield from ("", "## Encoded and decoded, against the truth", "")
    yield from _table([one.setting.name for one in outcomes], [x.kept_summary for x in outcomes])
    if others:
        yield from ("", f"## Against {reference.setting.name}", "")
        yield from _table([one.setting.name for one in others], [x.apart_summary for x in others])
    yield from ("", "## Time of the decoder, median", "")
    yield from ("| setting | seconds | times as fast |", "|---|---|---|")
    for one in outcomes:
        faster = reference.usual_seconds / one.usual_seconds
        yield f"| {one.setting.name} | {one.usual_seconds:.3g} | {faster:.2f} |"
    yield from ("", "## What the figures are", "")
    yield from (f"- *{name}*: {text}." for name, text in DEFINITIONS.items())


def _table(names: Sequence[str], columns: Sequence[Sequence[Summary]]) -> Iterator[str]:
    yield f"| figure | ideal | {' | '.join(names)} |"
    yield f"|---|---|{'---|' * len(names)}"
    for row in zip(*columns, strict=True):
        measure = row[0].measure
        cells = " | ".join(_cell(one) for one in row)
        yield f"| {measure.name} | {measure.ideal:g} | {cells} |"


def _cell(summary: Summary) -> str:
    if math.isnan(summary.mean):
        return "–"
    return f"{summary.mean:.4g} ({summary.worst:.4g})"


def _counted(images: int) -> str:
    return f"{images} image{'' if images == 1 else 's'}"
