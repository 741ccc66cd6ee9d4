"""Attributes by dotted name."""

from __future__ import annotations

from functools import reduce
from typing import Any


def get_attr(obj: Any, attr: str) -> Any:
    return reduce(getattr, attr.split("."), obj)


def set_attr_raw(obj: Any, attr: str, value: Any) -> None:
    path, _, name = attr.rpartition(".")
    setattr(get_attr(obj, path) if path else obj, name, value)
