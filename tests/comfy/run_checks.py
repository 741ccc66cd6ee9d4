"""Runs checks: the functions of a module that take nothing and give nothing, in their order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from inspect import isfunction, signature
from types import ModuleType

import torch


def run_checks(*modules: ModuleType) -> None:
    """Runs the modules' checks; the first that fails ends it with an error."""
    torch.set_num_threads(1)
    with torch.inference_mode():
        for module in modules:
            for check in _checks(module):
                check()
                print(f"checked: {check.__name__}", flush=True)


def _checks(module: ModuleType) -> Iterator[Callable[[], None]]:
    for name, value in vars(module).items():
        if isfunction(value) and value.__module__ == module.__name__ and name[0] != "_":
            found = signature(value)
            if not found.parameters and found.return_annotation == "None":
                yield value
