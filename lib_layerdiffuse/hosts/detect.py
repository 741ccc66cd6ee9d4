"""Which host this is, by what is there."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from ..errors import LayerDiffuseError, MissingCapabilityError
from ..host import Host

AsRaised = Callable[[LayerDiffuseError], Exception]
Named = Callable[[str], str]


def webui_host() -> Callable[[Any, AsRaised, Named], Host]:
    """Returns what makes the host of a WebUI's `sd_model`, by the code that can be imported.

    Raises:
        MissingCapabilityError: There is no adapter for this WebUI, or its code has changed.
    """
    try:
        from .patchers import PatcherHost
        from .patchers.backend_dialect import dialect
    except ImportError as error:
        raise MissingCapabilityError(
            "This WebUI has no model back end that LayerDiffuse knows.",
            "Use Stable Diffusion WebUI Forge or Forge Neo.",
        ) from error
    return partial(PatcherHost, dialect())
