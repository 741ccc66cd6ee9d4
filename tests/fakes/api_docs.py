"""The requests of docs/api.md, and what it says of their answers."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[2] / "docs" / "api.md"
_MARK = re.compile(r"<!-- test: (\S+) (\d+) -->\s*`(\w+) (\S+)`\s*")
_JSON = re.compile(r"```json\n(.*?)```", re.DOTALL)
_TOLD = re.compile(r"<!-- (info|answer) -->\s*```json\n(.*?)```", re.DOTALL)
_NOTES = "layerdiffusion_notes"  # There may be more of them.
_OF_THE_MACHINE = {"size", "state", "detail"}  # They depend on which files lie there.


@dataclass(frozen=True)
class Example:
    """One request.

    Attributes:
        family: Whose checkpoint is loaded.
        status: HTTP status that it is answered with.
        verb: HTTP method.
        path: Address.
        body: What is sent, or None.
        part: Where `told` is: in the "answer" or in its "info".
        told: What the page says of it.
    """

    family: str
    status: int
    verb: str
    path: str
    body: dict[str, Any] | None
    part: str
    told: Any

    def __str__(self) -> str:
        return f"{self.family} {self.verb} {self.path} {self.status}"

    def check(self, status: int, answer: Any) -> None:
        """Checks an answer, and that it has as many images as names for them."""
        assert status == self.status, answer
        if self.part == "info":
            info = json.loads(answer["info"])
            names = info["extra_generation_params"]["layerdiffusion_layers"]
            assert len(names) == len(answer["images"])
            answer = info
        assert holds(answer, self.told), answer


def examples() -> list[Example]:
    """Returns the page's requests in order."""
    page = PAGE.read_text(encoding="utf-8")
    marks = list(_MARK.finditer(page))
    ends = [mark.start() for mark in marks[1:]] + [len(page)]
    return [_example(mark, page[mark.end() : end]) for mark, end in zip(marks, ends, strict=True)]


def _example(mark: re.Match[str], text: str) -> Example:
    family, status, verb, path = mark.groups()
    body, told = _JSON.match(text), _TOLD.search(text)
    assert told is not None, f"nothing is said of the answer to {path}"
    sent = json.loads(body[1]) if body else None
    return Example(family, int(status), verb, path, sent, told[1], json.loads(told[2]))


def holds(got: Any, told: Any) -> bool:
    """Whether an answer holds what is told of it: dicts may have more, lists of dicts too."""
    if isinstance(told, dict) and _NOTES in told:
        if not set(told[_NOTES]) <= set(got[_NOTES]):
            return False
        told = {key: value for key, value in told.items() if key != _NOTES}
    if isinstance(told, dict):
        known = _OF_THE_MACHINE if "file" in told else set()
        return isinstance(got, dict) and all(
            key in got and (key in known or holds(got[key], value)) for key, value in told.items()
        )
    if isinstance(told, list) and told and isinstance(told[0], dict):
        return all(any(holds(one, wanted) for one in got) for wanted in told)
    return bool(got == told)
