"""The session of a WebUI that has been running for long: all of its weights are loaded."""

from __future__ import annotations

import sys
from functools import cache
from types import ModuleType
from typing import Any

from lib_layerdiffuse.host import Injection
from lib_layerdiffuse.pipeline import Session
from lib_layerdiffuse.settings.layer_settings import LayerSettings
from lib_layerdiffuse.weights.store import WeightStore


class KeptSession(Session):
    """One that finds what others before it have read of the same files, in the same WebUI.

    Reading them takes longest of all that a small job does. A test of what is read, or of what is
    kept in memory, takes `Session`, which keeps one method's.
    """

    def __init__(self, store: WeightStore) -> None:
        super().__init__(store)
        self._kept, self._codecs = _kept_in(sys.modules.get("modules.shared"))

    def weights(self, settings: LayerSettings) -> Injection:
        key = settings.method.id, settings.strength
        self._weights = self._kept.get(key)
        found = super().weights(settings)
        self._kept[key] = self._weights
        return found


@cache
def _kept_in(webui: ModuleType | None) -> tuple[dict[Any, Any], dict[Any, Any]]:
    """Returns the weights by method and the codecs by file; networks keep their host's patcher."""
    return {}, {}
