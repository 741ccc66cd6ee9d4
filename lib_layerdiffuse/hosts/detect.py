"""Which host this is, by what is there."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Any

from ..errors import LayerDiffuseError, MissingCapabilityError
from ..host import Host

AsRaised = Callable[[LayerDiffuseError], Exception]
Named = Callable[[str], str]
Made = Callable[[Any, AsRaised, Named], Host]


def webui_host() -> Made:
    """Returns what makes the host of a WebUI's `sd_model`, by the code that can be imported.

    Raises:
        MissingCapabilityError: There is no adapter for this WebUI, or its code has changed.
    """
    missing: ImportError | None = None
    for found in (_backend_host, _ldm_patched_host, _a1111_host):
        try:
            return found()
        except ImportError as error:
            missing = error
    raise MissingCapabilityError(
        "This WebUI has no model back end that LayerDiffuse knows.",
        "Use Stable Diffusion WebUI Forge, Forge Neo, reForge, Forge Classic or AUTOMATIC1111's "
        "WebUI.",
    ) from missing


def _backend_host() -> Made:
    from .patchers import PatcherHost
    from .patchers.backend_dialect import dialect

    return partial(PatcherHost, dialect())


def _ldm_patched_host() -> Made:
    from .patchers import PatcherHost
    from .patchers.ldm_patched_dialect import dialect

    return partial(PatcherHost, dialect())


def _a1111_host() -> Made:
    if find_spec("ldm_patched") is not None:
        raise ImportError("This WebUI samples by ldm_patched.")  # Beside A1111's own modules.
    from .a1111 import A1111Host

    return A1111Host
