"""One start of the stand-in WebUI with the extension in it, and requests to it."""

from __future__ import annotations

import base64
import importlib.util
import io
from importlib import import_module
from pathlib import Path

import numpy as np
from kept_session import KeptSession
from PIL import Image

from lib_layerdiffuse.methods import Layer

ENTRY = Path(__file__).parents[2] / "scripts" / "layerdiffuse.py"
SIZE = 64


def picture(value=200, alpha=255):
    return Image.new("RGBA", (SIZE, SIZE), (value, 30, 90, alpha))


def as_base64(image):
    with io.BytesIO() as stream:
        image.save(stream, format="PNG")
        return base64.b64encode(stream.getvalue()).decode()


def request(method, **more):
    """Returns the dict of an API request with every image that the method needs."""
    names = {Layer.FG: "fg_image", Layer.BG: "bg_image", Layer.BLENDED: "blend_image"}
    pictures = {names[layer]: as_base64(picture(alpha=128)) for layer in method.inputs}
    return {"method": method.id} | pictures | more


def arrays(result):
    """Returns a result's pictures."""
    return [np.asarray(image) for image in result.images]


def prompts(layers):
    """Returns the labels of these layers' prompts."""
    kinds = ("prompt", "negative prompt")
    return {f"{layer.label} {kind}" for layer in layers for kind in kinds}


class WebUI:
    """One start of the WebUI with the extension in it.

    Args:
        models: Its folder of models.
        outputs: Where it saves pictures.
        views: How many views the decoder takes; the setting's default is 8.
        session: The class of what keeps the weights.
    """

    def __init__(self, models, outputs, views=1, session=KeptSession):
        self.outputs = outputs
        for module in ("modules.paths", "lib_layerdiffuse.webui.job.choices"):
            import_module(module).models_path = str(models)  # Ours keeps what it first met.
        import_module("modules.paths_internal").default_output_dir = str(outputs.parent / "webui")
        spec = importlib.util.spec_from_file_location("layerdiffuse.py", ENTRY)
        self.entry = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.entry)
        self.script_module = import_module("lib_layerdiffuse.webui.entry.script")
        self.script_module.Session = session
        self.shared = import_module("modules.shared")
        self.shared.opts.data["layerdiffuse_decoder_views"] = views
        self.processing = import_module("modules.processing")
        self.scripts = import_module("modules.scripts")
        self.tiny = import_module("tiny_checkpoint")

    def job(self, method, *args, before=(), after=(), checkpoint=None, kind=None, **fields):
        """Returns a processing object, and its checkpoint and runner as attributes of self.

        Args:
            method: Whose checkpoint family is loaded.
            args: The script's arguments; the rest are the panel's defaults.
            before: Scripts that run before ours; likewise `after`.
            checkpoint: Another loaded checkpoint.
            kind: The class of the processing object, where it is not the plain one.
            fields: Attributes of the processing object.
        """
        ours = self.entry.LayerDiffuseScript()
        self.runner = self.scripts.ScriptRunner([*before, ours, *after])
        values = [getattr(c, "value", None) for c in self.runner.inputs]
        values[ours.args_from : ours.args_from + len(args)] = args
        self.checkpoint = checkpoint or self.tiny.Checkpoint(method.arch.value)
        self.plain = self.checkpoint.forge_objects_original.unet
        fields = {"outpath_samples": str(self.outputs)} | fields
        kind = kind or self.processing.Processing
        return kind(self.checkpoint, self.runner, tuple(values), **fields)

    def run(self, p):
        """Returns a job's result; no hook may have raised into the host, which swallows it."""
        try:
            return self.processing.process_images(p)
        finally:
            assert not self.runner.reports
            assert not import_module("modules.script_callbacks").reports
            assert self.checkpoint.forge_objects_original.unet is self.plain
            assert self.checkpoint.forge_objects_after_applying_lora.unet is self.plain

    def generate(self, method, more=None, **fields):
        """Returns the result and the processing object of a job with a dict of settings."""
        p = self.job(method, request(method, **more or {}), **fields)
        return self.run(p), p

    def serve(self, method, *others):
        """Returns the server of the host's API and ours; `others` are scripts before ours.

        The method says which family's checkpoint is loaded.
        """
        self.job(method, before=others)
        app = import_module("fastapi").FastAPI()
        api = import_module("modules.api.api")
        api.Api(app, self.runner, self.checkpoint, outpath_samples=str(self.outputs))
        for callback in import_module("modules.script_callbacks").app_started:
            callback(None, app)
        return app

    def plot(self):
        """Returns the plot's module, loaded and known to the host as its scripts are."""
        path = Path(import_module("fastapi").__file__).with_name("xyz_grid.py")
        spec = importlib.util.spec_from_file_location("xyz_grid.py", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        data = self.scripts.ScriptClassData(module.Script, str(path), str(path.parent), module)
        self.scripts.scripts_data.append(data)
        return module

    def saved(self):
        return sorted(path.name for path in self.outputs.glob("*"))

    def new_script(self, **hooks):
        """Returns another extension's script."""
        return type("Other", (self.scripts.Script,), hooks)()
