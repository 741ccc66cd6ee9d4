"""ComfyUI's way in: it imports this folder as a pack of nodes. Nobody else needs this file."""

import sys

if "folder_paths" in sys.modules and __package__:  # ComfyUI's, and not a test runner's.
    from .lib_layerdiffuse.comfy.extension import comfy_entrypoint

    WEB_DIRECTORY = "./lib_layerdiffuse/comfy/web"  # Its page finds the nodes' help there.
    __all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]
