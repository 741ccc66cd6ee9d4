"""The tables of docs/flows.md: what comes of each flow with each method."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lib_layerdiffuse.methods import METHODS, Arch, LayerMethod

PAGE = Path(__file__).parents[2] / "docs" / "flows.md"
WORKS, REFUSED = "works", "refused"
ANY = "Any result"
"""The heading of the table of flows that do not know what made an image."""
ELSEWHERE = "In other WebUIs"
"""The heading of the table of what the other WebUIs do."""
AS_IN_FORGE, PARTLY, OF_SETS, UNTRIED, LACKING = (
    "as in Forge",
    "as in Forge (SD1.5)",
    "refused for sets",
    "untried",
    "none",
)
IN_OTHERS = (AS_IN_FORGE, PARTLY, OF_SETS, UNTRIED, LACKING)
"""What may stand in that table."""


@dataclass(frozen=True)
class Cell:
    """One cell of a family's table."""

    flow: str
    method: LayerMethod
    outcome: str

    def __str__(self) -> str:
        return f"{self.method.id}-{self.flow}"


def head(method: LayerMethod) -> str:
    """Returns the head of a method's column: its id without its family, in words."""
    return method.id.rpartition("_")[0].replace("_", " ")


def methods_of(arch: Arch) -> list[LayerMethod]:
    """Returns a family's methods in the order of their columns."""
    return [method for method in METHODS if method.arch is arch]


def table(heading: str, page: str | None = None) -> list[list[str]]:
    """Returns the cells of the table below a heading, row by row, the head first."""
    text = PAGE.read_text(encoding="utf-8") if page is None else page
    _, found, below = text.partition(f"\n## {heading}\n")
    assert found, f"no heading {heading!r}"
    section = below.partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert rows, f"no table below {heading!r}"
    return [rows[0], *rows[2:]]


def cells() -> list[Cell]:
    """Returns every cell of both families, one method after the other."""
    found = []
    for arch in Arch:
        _, *rows = table(arch.value)
        for column, method in enumerate(methods_of(arch), 1):
            found += [Cell(row[0], method, row[column]) for row in rows]
    return found


def outcomes_for_any(webui: str | None = None) -> dict[str, str]:
    """Returns the outcome of each flow that does not know methods, in a WebUI by its name."""
    found = dict(table(ANY)[1:])
    if webui is None:
        return found
    there = {flow: _elsewhere(webui, flow) for flow in found}
    return {flow: LACKING if there[flow] == LACKING else was for flow, was in found.items()}


def outcome_in(webui: str, cell: Cell) -> str:
    """Returns the outcome of a cell in a WebUI by its name: `WORKS`, `REFUSED` or `LACKING`."""
    found = _elsewhere(webui, cell.flow)
    several = cell.method.frames > 1 or cell.method.uses_control
    if found == OF_SETS and several:
        return REFUSED
    return LACKING if found == LACKING else cell.outcome


def _elsewhere(webui: str, flow: str) -> str:
    """Returns what the table of the other WebUIs says; Forge has none of its columns."""
    head, *rows = table(ELSEWHERE)
    if webui not in head:
        return AS_IN_FORGE
    return {row[0]: row[head.index(webui)] for row in rows}[flow]
