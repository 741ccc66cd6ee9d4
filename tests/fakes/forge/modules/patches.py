"""Exchanges functions of the host, each owner's once."""

from __future__ import annotations

from typing import Any

originals: dict[Any, Any] = {}


def patch(key: str, obj: Any, field: str, replacement: Any) -> Any:
    assert (key, id(obj), field) not in originals, f"patch for {field} is already applied"
    originals[key, id(obj), field] = getattr(obj, field)
    setattr(obj, field, replacement)
    return originals[key, id(obj), field]


def undo(key: str, obj: Any, field: str) -> None:
    setattr(obj, field, originals.pop((key, id(obj), field)))


def original(key: str, obj: Any, field: str) -> Any:
    return originals.get((key, id(obj), field))
