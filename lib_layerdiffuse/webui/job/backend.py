"""Which host adapter this WebUI has; the one place of the front end that chooses."""

from __future__ import annotations

from typing import Any
from weakref import ref

from .abort import abort
from .extension_names import title_of

try:
    from ...hosts.forge import ForgeHost
except ImportError:  # Another WebUI; the panel says so.
    ForgeHost = None  # type: ignore[assignment, misc]


def is_possible() -> bool:
    """Whether this WebUI has a backend that we know."""
    return ForgeHost is not None


def loaded(p: Any) -> ForgeHost:
    """Returns the loaded checkpoint; ask at each use, since hires fix or a nested job changes it.

    To keep it would keep its memory.
    """
    known = ref(p)  # The UNet outlives it.
    return ForgeHost(
        p.sd_model,
        lambda error: abort(known(), error),
        named=lambda file: title_of(known(), file),
    )
