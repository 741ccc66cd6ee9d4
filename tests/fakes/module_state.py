"""What a group of modules holds, to be put back as it was."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType, SimpleNamespace
from typing import Any


class ModuleState:
    """The state of modules when this is made.

    It is followed from the modules' names through lists, dicts, sets and tuples, through the
    modules' own classes and the instances of these. Whatever else they hold, such as tensors and
    the objects of libraries, must not be altered.
    """

    def __init__(self, modules: Mapping[str, ModuleType]) -> None:
        self._names = set(modules)
        self._kept: dict[int, tuple[Any, Any]] = {}
        for module in modules.values():
            self._keep(module)

    def restore(self) -> None:
        """Puts everything back, in the same objects."""
        for value, kept in self._kept.values():
            if isinstance(value, type):
                _restore_class(value, kept)
            elif isinstance(value, list):
                value[:] = kept
            else:
                if list(value) != list(kept):
                    value.clear()
                value.update(kept)

    def _keep(self, value: Any) -> None:
        if id(value) in self._kept:
            return
        if isinstance(value, tuple):
            inside = value
        elif isinstance(value, (dict, list, set)):
            self._kept[id(value)] = value, value.copy()
            inside = value.values() if isinstance(value, dict) else value
        elif isinstance(value, type) and value.__module__ in self._names:
            self._kept[id(value)] = value, dict(vars(value))
            inside = vars(value).values()
        elif self._is_ours(value):
            inside = [vars(value)]
        else:
            return
        for one in list(inside):
            self._keep(one)

    def _is_ours(self, value: Any) -> bool:
        if isinstance(value, ModuleType):
            return value.__name__ in self._names
        kind = type(value)
        ours = kind is SimpleNamespace or kind.__module__ in self._names
        return ours and hasattr(value, "__dict__")


def _restore_class(kind: type, kept: Mapping[str, Any]) -> None:
    now = dict(vars(kind))
    for name in now.keys() - kept.keys():
        if not name.startswith("__"):  # Python notes things on classes, too.
            delattr(kind, name)
    for name, value in kept.items():
        if now.get(name, kept) is not value:
            setattr(kind, name, value)
