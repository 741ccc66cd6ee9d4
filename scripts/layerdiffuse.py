"""The WebUI's entry to LayerDiffuse."""

from modules import script_callbacks

from lib_layerdiffuse.webui.entry.script import LayerDiffuseScript
from lib_layerdiffuse.webui.flows import axes
from lib_layerdiffuse.webui.flows.differential_script import DifferentialScript
from lib_layerdiffuse.webui.flows.extras import KeepTransparency
from lib_layerdiffuse.webui.flows.grids import show_transparency
from lib_layerdiffuse.webui.job.alpha import save_as_png
from lib_layerdiffuse.webui.job.results import name_layer
from lib_layerdiffuse.webui.job.undecoded import save_latent
from lib_layerdiffuse.webui.page import api, host_functions, options


def add_axes() -> None:
    """Adds our axes to the X/Y/Z plot."""
    axes.register(LayerDiffuseScript)


host_functions.exchange()
script_callbacks.on_script_unloaded(host_functions.give_back)
options.add_page()  # Without a page the host asks nobody for options,
add_axes()  # and builds its scripts before it calls any callback.
script_callbacks.on_before_ui(add_axes)  # A plot may be loaded after us.
script_callbacks.on_before_ui(LayerDiffuseScript.wiring.start)
script_callbacks.on_after_component(LayerDiffuseScript.wiring.after_component)
script_callbacks.on_app_started(api.add_routes)
script_callbacks.on_app_started(host_functions.send_alpha)
script_callbacks.on_before_image_saved(name_layer)
script_callbacks.on_before_image_saved(save_as_png)
script_callbacks.on_image_saved(save_latent)
script_callbacks.on_image_grid(show_transparency)

__all__ = ["DifferentialScript", "KeepTransparency", "LayerDiffuseScript"]
