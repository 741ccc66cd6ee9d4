"""What the API does around a job."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

from fastapi import Depends, HTTPException
from PIL import Image

from modules import shared
from modules.processing import Processing, process_images


def verify_url(url: str) -> bool:
    """Returns whether the address is a public one; the stand-in goes by its name alone."""
    return "localhost" not in url and "127.0.0.1" not in url


def get(url: str) -> bytes:
    """Fetches an address; a test puts its own in place."""
    raise ConnectionError(f"no way to {url}")


def decode_base64_to_image(encoding: str) -> Image.Image:
    if encoding.startswith(("http://", "https://")):
        if not shared.opts.api_enable_requests:
            raise HTTPException(status_code=500, detail="Requests not allowed")
        if shared.opts.api_forbid_local_requests and not verify_url(encoding):
            raise HTTPException(status_code=500, detail="Request to local resource not allowed")
        response = get(encoding)
        try:
            return Image.open(io.BytesIO(response))
        except Exception as error:
            raise HTTPException(status_code=500, detail="Invalid image url") from error
    if encoding.startswith("data:image/"):
        encoding = encoding.split(";")[1].split(",")[1]
    try:
        return Image.open(io.BytesIO(base64.b64decode(encoding)))
    except Exception as error:
        raise HTTPException(status_code=500, detail="Invalid encoded image") from error


def encode_pil_to_base64(image: Image.Image | str) -> str:
    """Returns an image in the samples' format, which for JPEG and WebP has no alpha."""
    if isinstance(image, str):
        return image
    kind = {"jpg": "JPEG"}.get(shared.opts.samples_format, shared.opts.samples_format.upper())
    with io.BytesIO() as stream:
        (image if kind == "PNG" else image.convert("RGB")).save(stream, format=kind)
        return base64.b64encode(stream.getvalue()).decode()


def answer(p: Any) -> tuple[list[str], Any]:
    """Returns the images that a request gets, and the job's result."""
    p.is_api = True
    processed = process_images(p)
    pictures = [encode_pil_to_base64(i) for i in processed.images + processed.extra_images]
    return pictures, processed


class Api:
    """The routes that make images.

    Args:
        app: Where they are added.
        runner: The scripts that run.
        sd_model: The loaded checkpoint.
        more: Further fields of every job, such as where images are saved.
    """

    def __init__(self, app: Any, runner: Any, sd_model: Any, **more: Any) -> None:
        self.app, self.runner, self.sd_model, self.more = app, runner, sd_model, more
        self.default_script_args = [getattr(c, "value", None) for c in runner.inputs]
        self.default_script_args[0] = 0
        self.add_api_route("/sdapi/v1/txt2img", self.text2imgapi, methods=["POST"])
        self.add_api_route("/sdapi/v1/img2img", self.img2imgapi, methods=["POST"])
        self.add_api_route("/sdapi/v1/options", self.set_config, methods=["POST"])

    def add_api_route(self, path: str, endpoint: Any, **options: Any) -> None:
        if shared.cmd_opts.api_auth:
            options["dependencies"] = [Depends(self.auth)]
        self.app.add_api_route(path, endpoint, **options)

    def auth(self, password: str | None) -> bool:
        if password == shared.cmd_opts.api_auth:
            return True
        raise HTTPException(status_code=401, detail="Incorrect username or password")

    def init_script_args(self, request: dict[str, Any]) -> list[Any]:
        """Returns the scripts' values: those of the request over the code's, surplus cut off."""
        args = list(self.default_script_args)
        for name, given in request.pop("alwayson_scripts", {}).items():
            titles = [s.title().lower() for s in self.runner.alwayson_scripts]
            if name.lower() not in titles:
                raise HTTPException(status_code=422, detail=f"Script '{name}' not found")
            script = self.runner.alwayson_scripts[titles.index(name.lower())]
            values = given.get("args", [])[: script.args_to - script.args_from]
            args[script.args_from : script.args_from + len(values)] = values
        name, values = request.pop("script_name", None), request.pop("script_args", [])
        if name:
            titles = [s.title().lower() for s in self.runner.selectable_scripts]
            script = self.runner.selectable_scripts[titles.index(name.lower())]
            args[script.args_from : script.args_to] = values
            args[0] = titles.index(name.lower()) + 1
        return args

    def set_config(self, request: dict[str, Any]) -> None:
        """Sets options as Forge does: without a word that a program asks for it."""
        for name, value in request.items():
            shared.opts.set(name, value)

    def text2imgapi(self, request: dict[str, Any]) -> dict[str, Any]:
        processed = self._generate(dict(request))
        return self._answered(processed.images + processed.extra_images, processed)

    def img2imgapi(self, request: dict[str, Any]) -> dict[str, Any]:
        given = dict(request)
        given["init_images"] = [decode_base64_to_image(text) for text in given["init_images"]]
        if given.get("mask"):
            given["image_mask"] = decode_base64_to_image(given.pop("mask"))
        from img2img_job import Img2ImgJob

        processed = self._generate(given, Img2ImgJob)
        return self._answered(processed.images + processed.extra_images, processed)

    def _generate(self, given: dict[str, Any], kind: type[Processing] = Processing) -> Any:
        args = self.init_script_args(given)
        given["do_not_save_samples"] = not given.pop("save_images", False)
        known = {k: v for k, v in given.items() if k in kind.__dataclass_fields__}
        p = kind(self.sd_model, self.runner, tuple(args), **self.more, **known)
        p.is_api = True
        return self.runner.run(p, *args) if args[0] else process_images(p)

    @staticmethod
    def _answered(images: list[Any], processed: Any) -> dict[str, Any]:
        info = {
            "all_seeds": processed.all_seeds,
            "infotexts": processed.infotexts,
            "extra_generation_params": processed.extra_generation_params,
        }
        sent = [encode_pil_to_base64(image) for image in images]
        return {"images": sent, "parameters": {}, "info": json.dumps(info)}
