"""The WebUI's entry to LayerDiffuse."""

from modules import script_callbacks

from lib_layerdiffuse.webui.results import name_layer
from lib_layerdiffuse.webui.script import LayerDiffuseScript

script_callbacks.on_before_image_saved(name_layer)

__all__ = ["LayerDiffuseScript"]
