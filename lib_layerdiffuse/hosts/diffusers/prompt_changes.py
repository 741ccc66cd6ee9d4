"""Prompts that `AND` composes and that change from step to step, as the WebUI reads them.

Source: the WebUI's documentation of "Composable Diffusion", "Prompt editing" and "Alternating
Words"; what it leaves open is as a WebUI was seen to answer.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field

from ...errors import SettingsError, shortened

_AND = re.compile(r"\bAND\b")
_WEIGHT = re.compile(r"[+-]?(?:\d+\.?|\d*\.\d+)", re.ASCII)
_WHEN = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
_TOKEN = re.compile(r"\\.|[()\[\]:|]|[^\\()\[\]:|]+|\\", re.DOTALL)
_LORA = re.compile(r"<(?:lora|lyco|hypernet):[^<>]*>")

Part = tuple[str, float]


def composed(prompt: str) -> list[Part]:
    """Returns the prompts that `AND` puts together, each with its weight: `a AND b :0.5`.

    A number after the last colon is a weight where there is no `AND`, too, as in the WebUI.

    Raises:
        SettingsError: A weight is larger than any number.
    """
    return [_weighted(part) for part in _AND.split(prompt)]


def _weighted(part: str) -> Part:
    text, colon, number = part.rpartition(":")
    escaped = (len(text) - len(text.rstrip("\\"))) % 2
    if not colon or escaped or not _WEIGHT.fullmatch(number.strip()):
        return part.rstrip(), 1.0
    weight = float(number)
    if not math.isfinite(weight):
        raise SettingsError(
            f"A prompt's weight is too large: {shortened(number.strip())}.", "Write a smaller one."
        )
    return text.rstrip(), weight


def at_each_step(prompt: str, steps: int) -> list[str]:
    """Returns what a prompt says at each of the steps.

    `[a:b:10]` is `a` up to step 10 and then `b`; `[b:10]` and `[a::10]` say nothing before or
    after. With a point the number is a part of the steps. `[a|b]` is `a` and `b` by turns. All of
    these nest; `\\[`, `\\:` and `\\|` are plain.

    Raises:
        SettingsError: Square brackets hold both `:` and `|`, or too many `:` before a number.
    """
    if "[" not in prompt:
        return [prompt] * steps
    return [_at(prompt, step, steps) for step in range(1, steps + 1)]


def put_before_each(own: str, main: str) -> str:
    """Returns a prompt with a text and a comma before each prompt that `AND` composes."""
    parts = [part.strip() for part in _AND.split(main)] if own else [main]
    return " AND ".join(", ".join(text for text in (own, part) if text) for part in parts)


def check_prompt(prompt: str, *, name: str | None = None, composes: bool = True) -> None:
    """Checks that all that a prompt says can be done.

    Args:
        prompt: A prompt, a negative prompt, or a layer's own one.
        name: The field that holds it, for the error.
        composes: Whether it may hold `AND`.

    Raises:
        SettingsError: Something in it cannot.
    """
    if any("\ud800" <= character <= "\udfff" for character in prompt):
        raise SettingsError(
            "A prompt holds half a character, or bytes that are no UTF-8.",
            "Write that part again.",
            field=name,
        )
    if found := _LORA.search(prompt):
        raise SettingsError(
            f"Tags of other networks do not work in prompts here: {shortened(found[0])}.",
            "Remove the tag, and name a LoRA's file when the checkpoint is loaded.",
            field=name,
        )
    if not composes and _AND.search(prompt):
        raise SettingsError(
            "AND works in the main prompt only, not in negative prompts or those of a layer.",
            "Write a comma, or the word in small letters.",
            field=name,
        )
    for text, _ in composed(prompt):
        at_each_step(text, 1)


@dataclass
class _Group:
    """What stands between brackets so far, cut at its own `:` and `|`."""

    opener: str = ""
    texts: list[list[str]] = field(default_factory=lambda: [[]])
    cuts: list[str] = field(default_factory=list)

    def add(self, text: str) -> None:
        self.texts[-1].append(text)

    def cut(self, at: str) -> None:
        self.cuts.append(at)
        self.texts.append([])

    def take(self, inner: _Group) -> None:
        """Adds a group whose bracket was never closed: the bracket is plain."""
        self.add(inner.opener)
        self.texts[-1] += inner.texts[0]
        self.cuts += inner.cuts
        self.texts += inner.texts[1:]

    def parts(self) -> list[str]:
        return ["".join(text) for text in self.texts]

    def plain(self) -> str:
        """Returns it as it was written, but for the bracket that opened it."""
        parts = self.parts()
        return "".join([parts[0], *(c + p for c, p in zip(self.cuts, parts[1:], strict=True))])


def _at(prompt: str, step: int, steps: int) -> str:
    """Returns what a prompt says at one step, counted from 1; in time that grows as its length."""
    groups, squares = [_Group()], 0
    for match in _TOKEN.finditer(prompt):
        token = match[0]
        if token in ("(", "["):
            groups.append(_Group(token))
            squares += token == "["
        elif token == ")" and groups[-1].opener == "(":
            text = groups.pop().plain()
            groups[-1].add(f"({text})")
        elif token == "]" and squares:
            _close_round(groups)
            squares -= 1
            text = _said(groups.pop(), step, steps)
            groups[-1].add(text)
        elif token in (":", "|"):
            groups[-1].cut(token)
        else:
            groups[-1].add(token)
    return "".join(group.opener + group.plain() for group in groups)


def _close_round(groups: list[_Group]) -> None:
    """Makes round brackets plain that were opened after the last square one."""
    last = max(place for place in range(len(groups)) if groups[place].opener == "[")
    for inner in groups[last + 1 :]:
        groups[last].take(inner)
    del groups[last + 1 :]


def _said(group: _Group, step: int, steps: int) -> str:
    """Returns what square brackets say at a step."""
    parts, colons = group.parts(), group.cuts.count(":")
    alternates = "|" in group.cuts
    when = None if alternates or not colons else _WHEN.fullmatch(parts[-1].strip())
    if (alternates and colons) or (when and colons > 2):
        raise SettingsError(
            f"Square brackets are written as [from:to:when] or [one|other], not as "
            f"{shortened('[' + group.plain() + ']')}.",
            "Put one pair of brackets into another, or write \\: or \\| for a plain sign.",
        )
    if alternates:
        return parts[(step - 1) % len(parts)]
    if when:
        before = parts[0] if colons == 2 else ""
        return before if step <= _last_step(when[0], steps) else parts[-2]
    return f"[{group.plain()}]"


def _last_step(when: str, steps: int) -> int:
    """Returns the last step before a change: with a point a part of all steps, else a number."""
    last = float(when) * (steps if "." in when else 1)
    return int(min(max(last, 0), steps))
