"""Wrappers around the parts of a sampling run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class WrappersMP:
    OUTER_SAMPLE = "outer_sample"
    APPLY_MODEL = "apply_model"


class WrapperExecutor:
    """A function of an object, inside of wrappers; the first is the outermost."""

    def __init__(self, original: Callable[..., Any], class_obj: Any, wrappers: list[Any]) -> None:
        self.original, self.class_obj, self.wrappers = original, class_obj, wrappers

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        inner = WrapperExecutor(self.original, self.class_obj, self.wrappers[1:])
        return inner.execute(*args, **kwargs)

    def execute(self, *args: Any, **kwargs: Any) -> Any:
        if self.wrappers:
            return self.wrappers[0](self, *args, **kwargs)
        return self.original(*args, **kwargs)


def get_all_wrappers(kind: str, options: dict[str, Any]) -> list[Any]:
    """Returns the wrappers of a kind that the transformer's options hold."""
    keyed = options.get("wrappers", {}).get(kind, {})
    return [wrapper for found in keyed.values() for wrapper in found]
