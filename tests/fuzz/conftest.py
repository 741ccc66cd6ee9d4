"""The fuzzers' options and counts."""

from __future__ import annotations

from pathlib import Path

import pytest
from budget import Budget
from lent_webui import models, webui, webui_name

__all__ = ["models", "webui", "webui_name"]

_COUNTS = "fuzzed"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds how much is tried."""
    group = parser.getgroup("fuzz")
    group.addoption("--inputs", type=int, help="malformed inputs of each area")
    group.addoption("--seed", type=int, help="the same one draws the same inputs")
    group.addoption("--minutes", type=float, help="how long each area may take")
    group.addoption("--only", type=int, help="the number of one input, to see it again")


@pytest.fixture(scope="session")
def budget(pytestconfig: pytest.Config) -> Budget:
    """A few inputs, always the same, where nothing else is asked for: these are the smoke test."""

    def option(name: str, default: float) -> float:
        found = pytestconfig.getoption(name, None)
        return default if found is None else found

    only = pytestconfig.getoption("only", None)
    return Budget(int(option("inputs", 4)), int(option("seed", 0)), 60 * option("minutes", 1), only)


@pytest.fixture
def family(monkeypatch: pytest.MonkeyPatch) -> Path:
    """Lends the random family to jobs without a checkpoint."""
    import random_family

    return random_family.lend(monkeypatch)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Prints the counts by area."""
    reports = [one for kind in ("passed", "failed") for one in terminalreporter.getreports(kind)]
    rows = [counts for one in reports for name, counts in one.user_properties if name == _COUNTS]
    if not rows:
        return
    columns = ("area", "inputs", "done", "refused", "interrupted", "faults", "seconds")
    total = {name: sum(row[name] for row in rows) for name in columns[1:]}
    terminalreporter.section("malformed inputs")
    terminalreporter.write_line("".join(f"{name:>13}" for name in columns))
    for row in [*rows, {"area": "all"} | total]:
        terminalreporter.write_line("".join(f"{row[name]:>13}" for name in columns))
