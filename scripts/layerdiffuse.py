"""The WebUI's entry to LayerDiffuse."""

from modules import script_callbacks

from lib_layerdiffuse.webui import api, axes, options
from lib_layerdiffuse.webui.differential import DifferentialScript
from lib_layerdiffuse.webui.results import name_layer
from lib_layerdiffuse.webui.script import LayerDiffuseScript


def add_axes() -> None:
    """Adds our axes to the X/Y/Z plot."""
    axes.register(LayerDiffuseScript)


add_axes()  # Without a page the host builds its scripts before it calls any callback,
script_callbacks.on_before_ui(add_axes)  # and a plot may be loaded after us.
script_callbacks.on_app_started(api.add_routes)
script_callbacks.on_ui_settings(options.add_page)
script_callbacks.on_before_image_saved(name_layer)

__all__ = ["DifferentialScript", "LayerDiffuseScript"]
