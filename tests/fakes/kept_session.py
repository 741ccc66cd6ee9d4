"""The session of a WebUI that has been running for long: all of its weights are loaded."""

from __future__ import annotations

from typing import Any

from lib_layerdiffuse.host import Injection
from lib_layerdiffuse.pipeline import Session
from lib_layerdiffuse.settings.layer_settings import LayerSettings
from lib_layerdiffuse.weights.store import WeightStore

_weights: dict[tuple[str, float], Any] = {}
_codecs: dict[Any, Any] = {}


class KeptSession(Session):
    """One that finds what others before it have read of the same files.

    Reading them takes longest of all that a small job does. A test of what is read, or of what is
    kept in memory, takes `Session`, which keeps one method's.
    """

    def __init__(self, store: WeightStore) -> None:
        super().__init__(store)
        self._codecs = _codecs

    def weights(self, settings: LayerSettings) -> Injection:
        key = settings.method.id, settings.strength
        self._weights = _weights.get(key)
        found = super().weights(settings)
        _weights[key] = self._weights
        return found
