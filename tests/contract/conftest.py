"""The stand-ins for a WebUI."""

from lent_webui import models, own_models, webui, webui_name

__all__ = ["models", "own_models", "webui", "webui_name"]
