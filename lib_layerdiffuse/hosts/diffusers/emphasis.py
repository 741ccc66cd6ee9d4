"""The WebUI's prompt syntax as pieces of text with weights.

Source: the WebUI's documentation of "Attention/emphasis" and BREAK.
"""

from __future__ import annotations

import re

from ...errors import SettingsError

BREAK = "BREAK"
"""A piece that ends a block of tokens."""

_ROUND, _SQUARE = 1.1, 1 / 1.1
_TOKEN = re.compile(
    r"\\[()\[\]\\]"
    r"|[()\[\]]"
    r"|:\s*(?P<weight>[+-]?(?:\d+\.?\d*|\.\d+))\s*\)"
    r"|\s*\bBREAK\b\s*"
    r"|\\|:"
    r"|(?:(?!\s*\bBREAK\b)[^\\()\[\]:])+"
)
_LORA = re.compile(r"<(?:lora|lyco|hypernet):[^<>]*>")
_EDITING = re.compile(r"\[[^\[\]]*:\s*\d+(?:\.\d+)?\s*\]|\[[^\[\]]*\|[^\[\]]*\]")

Piece = tuple[str, float]


def parse(prompt: str) -> list[Piece]:
    """Returns a prompt's pieces of text with their weights, BREAKs among them.

    `(a)` weighs 1.1, `[a]` 1/1.1, `(a:1.3)` 1.3; they nest, and `\\(` is a plain bracket. What is
    not closed counts up to the end.

    Raises:
        SettingsError: It has syntax of the WebUI that is not done here.
    """
    _refuse_other_syntax(prompt)
    pieces: list[Piece] = []
    opened: list[tuple[str, int]] = []

    def weigh(factor: float) -> None:
        _, first = opened.pop()
        pieces[first:] = [(text, weight * factor) for text, weight in pieces[first:]]

    for match in _TOKEN.finditer(prompt):
        token, last = match[0], opened[-1][0] if opened else ""
        if token in ("(", "["):
            opened.append((token, len(pieces)))
        elif match["weight"] and last == "(":
            weigh(float(match["weight"]))
        elif token == ")" and last == "(":
            weigh(_ROUND)
        elif token == "]" and last == "[":
            weigh(_SQUARE)
        elif token.strip() == BREAK:
            pieces.append((BREAK, 1.0))
        else:
            pieces.append((token[1:] if token[0] == "\\" and len(token) > 1 else token, 1.0))
    while opened:
        weigh(_ROUND if opened[-1][0] == "(" else _SQUARE)
    return _joined(pieces)


def _joined(pieces: list[Piece]) -> list[Piece]:
    """Returns the pieces with neighbours of one weight as one."""
    joined: list[Piece] = []
    for text, weight in pieces:
        if joined and text != BREAK != joined[-1][0] and joined[-1][1] == weight:
            joined[-1] = joined[-1][0] + text, weight
        else:
            joined.append((text, weight))
    return joined


def _refuse_other_syntax(prompt: str) -> None:
    if found := _LORA.search(prompt):
        raise SettingsError(
            f"Tags of other networks do not work in prompts here: {found[0]}.",
            "Remove the tag, and name a LoRA's file when the checkpoint is loaded.",
        )
    if found := _EDITING.search(prompt):
        raise SettingsError(
            f"Prompts that change from step to step do not work here: {found[0]}.",
            "Remove the square brackets, or write \\[ for a plain one.",
        )
