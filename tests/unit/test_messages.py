"""What front ends say: what happens and what to do, not what the code expected."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "lib_layerdiffuse"
ROOMS = ("batch", "cli", "demo", "settings", "standalone", "studio", "ui", "webui", "weights")
MODULES = sorted(path for room in ROOMS for path in (PACKAGE / room).rglob("*.py"))


def raised_texts(path: Path) -> list[str]:
    """Returns the constant parts of all texts that a module raises or tells."""
    calls = [node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if _is_error(node)]
    constants = (
        part for call in calls for part in ast.walk(call) if isinstance(part, ast.Constant)
    )
    return [part.value for part in constants if isinstance(part.value, str)]


def _is_error(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and getattr(node.func, "id", "").endswith("Error")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_message_says_what_was_expected(path):
    told = [text for text in raised_texts(path) if text.startswith("Expected")]
    assert told == []


def test_messages_are_found():
    found = raised_texts(PACKAGE / "webui" / "job" / "checks.py")
    assert any("LayerDiffuse does not work with the refiner" in text for text in found)
