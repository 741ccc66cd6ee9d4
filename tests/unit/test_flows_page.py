"""The tables of docs/flows.md have a run for each row and a column for each method."""

from __future__ import annotations

import re

import panel_flows
import picture_flows
import pytest
import text_flows
from extras_flows import RUNS_FOR_ANY
from flows_page import (
    ANY,
    ELSEWHERE,
    IN_OTHERS,
    LACKING,
    OF_SETS,
    PAGE,
    REFUSED,
    WORKS,
    cells,
    head,
    methods_of,
    outcome_in,
    outcomes_for_any,
    table,
)
from host_lists import from_host, recorded, rows_of
from webuis import FORGE, WEBUIS

from lib_layerdiffuse.methods import METHODS, Arch

RUNS = [*text_flows.RUNS, *picture_flows.RUNS, *panel_flows.RUNS]


@pytest.mark.parametrize("arch", Arch)
def test_each_method_has_a_column(arch: Arch) -> None:
    assert table(arch.value)[0] == ["Flow", *map(head, methods_of(arch))]


@pytest.mark.parametrize("arch", Arch)
def test_each_row_has_a_run_and_each_run_a_row(arch: Arch) -> None:
    rows = [row[0] for row in table(arch.value)[1:]]
    assert rows == RUNS


def test_flows_that_know_no_method_have_runs() -> None:
    assert list(outcomes_for_any()) == list(RUNS_FOR_ANY)
    assert set(outcomes_for_any().values()) == {WORKS, REFUSED}
    assert table(ANY)[0] == ["Flow", "Outcome"]


def test_each_cell_says_what_the_legend_knows() -> None:
    found = cells()
    assert len(found) == len(RUNS) * len(METHODS)
    assert {cell.outcome for cell in found} == {WORKS, REFUSED}
    legend = PAGE.read_text(encoding="utf-8").partition("\n## ")[0]
    assert all(f"**{outcome}**" in legend for outcome in (WORKS, REFUSED))


def test_each_other_webui_has_a_column_with_every_row() -> None:
    first, *rows = table(ELSEWHERE)
    assert first == ["Flow", *(webui.name for webui in WEBUIS if webui is not FORGE)]
    assert [row[0] for row in rows] == [*RUNS, *outcomes_for_any()]
    assert {cell for row in rows for cell in row[1:]} <= set(IN_OTHERS)


def test_what_knows_no_method_is_lacking_where_its_column_says_so() -> None:
    first, *rows = table(ELSEWHERE)
    for row in rows[len(RUNS) :]:
        for name, found in zip(first[1:], row[1:], strict=True):
            assert (outcomes_for_any(name)[row[0]] == LACKING) == (found == LACKING)


def test_another_webui_does_what_its_column_says() -> None:
    first, *rows = table(ELSEWHERE)
    assert {outcome_in(FORGE.name, cell) for cell in cells()} == {WORKS, REFUSED}
    for row in rows[: len(RUNS)]:
        of_flow = [cell for cell in cells() if cell.flow == row[0]]
        for name, found in zip(first[1:], row[1:], strict=True):
            outcomes = [outcome_in(name, cell) for cell in of_flow]
            if found == LACKING:
                assert set(outcomes) == {LACKING}
            elif found == OF_SETS:
                assert set(outcomes) == {WORKS, REFUSED}
            else:
                assert outcomes == [cell.outcome for cell in of_flow]


def test_the_page_says_what_it_was_run_in() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert re.search(r"[Oo]n \d{4}-\d\d-\d\d in .* at commit `[0-9a-f]{40}`", text)


@pytest.mark.parametrize("title", recorded()["scripts"] + recorded()["panels"])
@pytest.mark.parametrize("arch", Arch)
def test_each_script_and_panel_of_the_host_has_a_row(arch: Arch, title: str) -> None:
    assert rows_of(title, [row[0] for row in table(arch.value)[1:]])


@pytest.mark.parametrize("name", recorded()["steps"])
def test_each_step_of_the_extras_tab_has_a_row(name: str) -> None:
    assert rows_of(name, list(outcomes_for_any()))


def test_a_row_is_found_by_the_beginning_of_its_name() -> None:
    rows = ["ControlNet unit", "ControlNet unit, Reference", "FreeU", "SD upscale", "Seeds"]
    assert rows_of("controlnet", rows) == rows[:2]
    assert rows_of("freeu integrated (sd 1.x, sd 2.x, sdxl)", rows) == ["FreeU"]
    assert rows_of("upscale", rows) == rows_of("see", rows) == []


def test_a_hosts_lists_leave_out_what_is_ours() -> None:
    infos = [
        {"name": name, "is_alwayson": always}
        for name, always in (("seed", True), ("layerdiffuse", True), ("loopback", False))
        for _ in range(2)  # One for each tab.
    ]
    infos.append({"name": "e2e probe", "is_alwayson": True})
    found = from_host(infos, ["Upscale", "Keep transparency"])
    assert found == {"scripts": ["loopback"], "panels": ["seed"], "steps": ["Upscale"]}
