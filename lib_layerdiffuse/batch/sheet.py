"""The contact sheet of a run: failures first, then what is not transparent, then the rest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from itertools import islice
from typing import Any

from ..imaging.coverage import Verdict
from ..standalone.html_page import html_figure, html_page, html_section
from .figures import Tally, counted, worst_verdict

SHEET = "sheet.html"
_MOST = 2000
"""Rows of one kind that a page shows; a browser has enough of more."""


def contact_sheet(rows: Sequence[Mapping[str, Any]], tally: Tally) -> bytes:
    """Returns the page, which lies in the folder of the results.

    Args:
        rows: What is told of each row.
        tally: What became of them.
    """
    failed: list[Mapping[str, Any]] = []
    odd: list[Mapping[str, Any]] = []
    good: list[Mapping[str, Any]] = []
    for row in rows:
        as_wanted = worst_verdict(row) in (None, Verdict.TRANSPARENT.value)
        (failed if row["error"] else good if as_wanted else odd).append(row)
    sections = [
        *_failures(failed),
        *_section("Not transparent", odd),
        *_section("Done", good),
    ]
    lead = f"<p>{escape(tally.sentence())}</p>"
    return html_page("LayerDiffuse: a run", "A run", lead, sections).encode()


def _failures(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if rows:
        yield html_section("Failed", _shown(rows), lines=map(_why, islice(rows, _MOST)))


def _why(row: Mapping[str, Any]) -> str:
    error = row["error"]
    said = f"{error['message']} {error['hint']}".strip()
    return f"Line {row['line']}, {row['request']['method']}: {said} ({_prompt(row)})"


def _section(title: str, rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if rows:
        shown = (figure for row in islice(rows, _MOST) for figure in _figures(row))
        yield html_section(title, _shown(rows), shown)


def _shown(rows: Sequence[Mapping[str, Any]]) -> str:
    return counted(len(rows), "row") + (f", {_MOST} shown" if len(rows) > _MOST else "")


def _figures(row: Mapping[str, Any]) -> Iterable[str]:
    for one in row["files"]:
        if one["file"].endswith(".png"):
            verdict = f", {one['alpha']['verdict']}" if "alpha" in one else ""
            what = f"{one['layer']}{'-' if one.get('extra') else ''}{one.get('extra', '')}"
            yield html_figure(one["file"], f"Line {row['line']}, {what}{verdict}: {_prompt(row)}")


def _prompt(row: Mapping[str, Any]) -> str:
    text = str(row["request"].get("prompt") or row["request"].get("fg_additional_prompt") or "")
    return text if len(text) <= 80 else f"{text[:79]}…"
