"""The WebUI's prompt syntax as pieces of text with weights.

Source: the WebUI's documentation of "Attention/emphasis" and BREAK.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby

from ...errors import SettingsError

BREAK = "BREAK"
"""A piece that ends a block of tokens."""

_ROUND, _SQUARE = 1.1, 1 / 1.1
_HEAVIEST = 1e30
_TOKEN = re.compile(
    r"\\[()\[\]\\:|]"
    r"|[()\[\]]"
    r"|:\s*(?P<weight>[+-]?(?:\d+(?:\.\d*)?|\.\d+))\s*\)"
    r"|\bBREAK\b"
    r"|\w+|\s+|\\|:"
    r"|[^\w\s\\()\[\]:]+"
)

Piece = tuple[str, float]


def parse(prompt: str) -> list[Piece]:
    """Returns a prompt's pieces of text with their weights, BREAKs among them.

    `(a)` weighs 1.1, `[a]` 1/1.1, `(a:1.3)` 1.3; they nest, and `\\(` is a plain bracket. What is
    not closed counts up to the end.

    Raises:
        SettingsError: A weight is too large to be computed.
    """
    tokens = list(_TOKEN.finditer(prompt))
    factors, closing = _brackets(tokens)
    pieces: list[Piece] = []
    weights = [1.0]
    for place, match in enumerate(tokens):
        token = match[0]
        if place in factors:
            weights.append(weights[-1] * factors[place])
        elif place in closing:
            weights.pop()
        elif token == BREAK:
            pieces.append((BREAK, 1.0))
        else:
            pieces.append((token[1:] if token[0] == "\\" and token[1:] else token, weights[-1]))
    if not all(abs(weight) <= _HEAVIEST for _, weight in pieces):
        raise SettingsError(
            "A word in the prompt weighs too much to be computed.",
            "Use a smaller weight, or fewer brackets.",
        )
    return _joined(pieces)


def _brackets(tokens: Sequence[re.Match[str]]) -> tuple[dict[int, float], set[int]]:
    """Returns the places of opening brackets with their weights, and of those that close them."""
    factors: dict[int, float] = {}
    opened: list[int] = []
    closing: set[int] = set()
    for place, match in enumerate(tokens):
        token, last = match[0], tokens[opened[-1]][0] if opened else ""
        if token in ("(", "["):
            factors[place] = _ROUND if token == "(" else _SQUARE
            opened.append(place)
        elif (token, last) == ("]", "[") or (last == "(" and (token == ")" or match["weight"])):
            closing.add(place)
            first = opened.pop()
            if match["weight"]:
                factors[first] = float(match["weight"])
    return factors, closing


def _joined(pieces: Sequence[Piece]) -> list[Piece]:
    """Returns the pieces with neighbours of one weight as one, without blanks beside BREAK."""
    joined: list[Piece] = []
    for (is_break, weight), alike in groupby(pieces, lambda piece: (piece[0] == BREAK, piece[1])):
        texts = [text for text, _ in alike]
        joined += [(BREAK, 1.0)] * len(texts) if is_break else [("".join(texts), weight)]
    breaks = [text == BREAK for text, _ in joined]
    for place, (text, weight) in enumerate(joined):
        ended = text.rstrip() if any(breaks[place + 1 : place + 2]) else text
        joined[place] = ended.lstrip() if place and breaks[place - 1] else ended, weight
    return [piece for piece in joined if piece[0]]
