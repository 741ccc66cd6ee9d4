"""How a WebUI writes values into an infotext and takes them out again.

Written after the rules of Stable Diffusion WebUI Forge and compared with it on random texts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

_NEGATIVE = "Negative prompt:"
_PAIR = re.compile(
    r"""
    \s* (?P<key> \w [\w\ \-/]+ ) :
    \s* (?P<value> " (?: \\. | [^"\\] )+ " | [^,]* )
    (?: , | $ )
    """,
    re.VERBOSE,
)
_SIZE = re.compile(r"(\d+)x(\d+)\n?")


def quote(value: Any) -> Any:
    """Returns a value as JSON where it holds what would end it, or else as it is."""
    odd = any(mark in str(value) for mark in (",", "\n", ":"))
    return json.dumps(value, ensure_ascii=False) if odd else value


def join(values: Mapping[str, Any]) -> str:
    """Returns the infotext's last line; a value that equals its key stands alone."""
    return ", ".join(
        key if key == value else f"{key}: {quote(value)}"
        for key, value in values.items()
        if value is not None
    )


def write(prompt: str, negative: str, values: Mapping[str, Any]) -> str:
    """Returns a whole infotext."""
    middle = f"\n{_NEGATIVE} {negative}" if negative else ""
    return f"{prompt}{middle}\n{join(values)}".strip()


def split(line: str) -> dict[str, str]:
    """Returns the values of an infotext's last line; empty ones are lost."""
    found: dict[str, str] = {}
    for match in _PAIR.finditer(line):
        key, value = match["key"], match["value"]
        if not value:
            continue
        if value[0] == value[-1] == '"':
            value = _unquote(value)
        size = _SIZE.fullmatch(value)
        if size:
            found |= {f"{key}-1": size[1], f"{key}-2": size[2]}
        else:
            found[key] = value
    return found


def _unquote(value: str) -> str:
    try:
        return json.loads(value)
    except ValueError:
        return value


def parse(text: str) -> dict[str, str]:
    """Returns the values of a whole infotext, the prompts among them."""
    *lines, last = text.strip().split("\n")
    if len(_PAIR.findall(last)) < 3:
        lines, last = [*lines, last], ""
    texts: dict[str, list[str]] = {"Prompt": [], "Negative prompt": []}
    kind = "Prompt"
    for line in map(str.strip, lines):
        if line.startswith(_NEGATIVE):
            kind = "Negative prompt"
        texts[kind].append(line.removeprefix(_NEGATIVE).strip())
    return split(last) | {kind: "\n".join(found).lstrip("\n") for kind, found in texts.items()}
