"""The adapters, each with the stand-in for its host: what the contract's tests run against."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from importlib import import_module
from typing import Any

import pytest
from host_run import HostRun
from lent_webui import WEBUIS, lent

from lib_layerdiffuse.methods import LayerMethod

ADAPTERS = {
    "diffusers": "diffusers_run",
    "comfy": "comfy_run",
    "a1111": "a1111_run",
    "forge": "patcher_run",
    "neo": "patcher_run",
    "reforge": "patcher_run",
    "classic": "patcher_run",
}
"""The module with each one's `Run`; a WebUI's stand-ins are lent under the same name."""
_LIKE_FORGE = [name for name, of in ADAPTERS.items() if of == "patcher_run" and name != "forge"]
"""They differ from it in their dialects, which have tests of their own: `make slow` runs these."""
_FIRST_AND_LAST = ["diffusers", "comfy", "a1111"]
"""They are tried with two of the methods: `make slow` runs the others."""


@pytest.fixture
def run(request: pytest.FixtureRequest) -> Iterator[HostRun]:
    """An adapter's run, by the mark below, with its host's stand-ins in place as if new."""
    name = request.param
    if name not in WEBUIS:
        pytest.importorskip("diffusers", minversion="0.41", reason="the standalone host needs it")
    with lent(name) if name in WEBUIS else nullcontext():
        one = import_module(ADAPTERS[name]).Run()
        one.name = name
        yield one
        if one.attachment is not None:  # Should the test have failed: some hosts are shared.
            one.attachment.detach()


def each(*methods: LayerMethod, but: Mapping[str, str] | None = None) -> Callable[[Any], Any]:
    """Returns a mark that runs a test with each adapter, and with each of some methods.

    Args:
        methods: The parameter `method`; none where the test has no such.
        but: Adapters that a point does not apply to, with the reason.
    """
    if not methods:
        cases = [pytest.param(name, marks=_marks(name, but), id=name) for name in ADAPTERS]
        return pytest.mark.parametrize("run", cases, indirect=True)
    cases = []
    for name in ADAPTERS:
        for method in methods:
            marks = _marks(name, but)
            if name in _FIRST_AND_LAST and method not in (methods[0], methods[-1]):
                marks.append(pytest.mark.slow)
            cases.append(pytest.param(name, method, marks=marks, id=f"{name}-{method.id}"))
    return pytest.mark.parametrize(("run", "method"), cases, indirect=["run"])


def _marks(name: str, but: Mapping[str, str] | None) -> list[pytest.MarkDecorator]:
    marks = [pytest.mark.slow] if name in _LIKE_FORGE else []
    return [*marks, pytest.mark.skip(reason=but[name])] if but and name in but else marks
