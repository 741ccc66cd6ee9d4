"""The WebUI's entry to LayerDiffuse."""

from modules import script_callbacks

from lib_layerdiffuse.webui.script import LayerDiffuseScript, name_layer

script_callbacks.on_before_image_saved(name_layer)

__all__ = ["LayerDiffuseScript"]
