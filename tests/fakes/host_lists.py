"""What of a host has rows in docs/flows.md: scripts, panels and steps of the Extras tab.

They were recorded in the host that the page names; `tests/e2e` compares the record with the host.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

RECORD = Path(__file__).parents[1] / "data" / "forge_scripts.json"
_OURS = ("layerdiffuse", "differential diffusion", "Keep transparency")
_OF_TESTS = "e2e "
_KIND = " integrated"  # A word in the titles of the host's own extensions.
Lists = dict[str, list[str]]


def recorded() -> Lists:
    """Returns the titles of scripts and panels, in lower case, and the names of steps."""
    lists: Lists = json.loads(RECORD.read_text(encoding="utf-8"))
    return lists


def from_host(script_info: Iterable[dict[str, Any]], steps: Iterable[str]) -> Lists:
    """Returns the same of a running host, without what is ours.

    Args:
        script_info: What it answers at `/sdapi/v1/script-info`.
        steps: The names of the Extras tab's steps.
    """
    infos = [
        info
        for info in script_info
        if info["name"] not in _OURS and not info["name"].startswith(_OF_TESTS)
    ]
    return {
        "scripts": sorted({info["name"] for info in infos if not info["is_alwayson"]}),
        "panels": sorted({info["name"] for info in infos if info["is_alwayson"]}),
        "steps": sorted(name for name in steps if name not in _OURS),
    }


def rows_of(title: str, rows: Sequence[str]) -> list[str]:
    """Returns the rows of a script, panel or step: they are called, or begin, like its title.

    What stands in brackets does not count, nor that it is integrated.
    """
    name = title.lower().partition(" (")[0].removesuffix(_KIND)
    return [row for row in rows if (row.lower() + " ").replace(",", " ").startswith(f"{name} ")]
