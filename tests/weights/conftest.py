"""Fixtures of the tests on real weights; `given_weights` says what they need."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from given_weights import WEIGHTS, Given

Tell = Callable[[str], None]
FIGURE = "figure"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks this folder's tests, and skips them where there are no weights."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.weights)
            if not os.environ.get(WEIGHTS):
                item.add_marker(pytest.mark.skip(reason=f"real weights: {WEIGHTS} is not set"))


@pytest.fixture(scope="session")
def given() -> Given:
    """The weights to measure."""
    return Given()


@pytest.fixture
def tell(record_property: Callable[[str, object], None]) -> Tell:
    """Puts a line among the figures at the end of the run."""
    return lambda line: record_property(FIGURE, line)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Prints what was measured, whether it was good enough or not."""
    reports = [*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")]
    lines = [line for report in reports for name, line in report.user_properties if name == FIGURE]
    if lines:
        terminalreporter.section("figures of the weights")
    for line in lines:
        terminalreporter.write_line(line)
