"""The stand-ins for a WebUI."""

from lent_webui import _started, forge, models, own_models, webui

__all__ = ["_started", "forge", "models", "own_models", "webui"]
