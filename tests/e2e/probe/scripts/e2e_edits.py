"""Test-only WebUI extension: edits images after sampling, as other extensions do.

Arguments of the always-on script "E2E Edits":
    0. what to do with each image: "" nothing, "repaint" a part, "grow" it by half, or "nested":
       start another job on it and paste a part of what that made; or what to do with a batch's
       list of images: "turn" it round, or "insert" a grey one before it
    1. folder that nested jobs' images are written to

It also brings a face restorer and an upscaler that know RGB only, both called "E2E"; the former
stands for the models of GFPGAN and CodeFormer, too. ``POST /e2e/extras`` runs the Extras tab on a
folder, ``POST /e2e/steps`` runs steps of it on an image, and ``GET /e2e/steps`` lists them.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import torch
from modules import (
    codeformer_model,
    gfpgan_model,
    postprocessing,
    processing,
    script_callbacks,
    scripts,
    shared,
)
from modules.api.api import decode_base64_to_image, encode_pil_to_base64
from modules.face_restoration import FaceRestoration
from modules.upscaler import Upscaler, UpscalerData
from PIL import Image

PART = (8, 8, 40, 32)


class Restorer(FaceRestoration):
    """Turns the colours of the upper half round."""

    def name(self) -> str:
        """Names it for the option."""
        return "E2E"

    def restore(self, np_image: np.ndarray, w: float | None = None) -> np.ndarray:
        """Returns the image with its upper half inverted."""
        half = len(np_image) // 2
        return np.concatenate([255 - np_image[:half], np_image[half:]])


class RgbUpscaler(Upscaler):
    """Doubles images, which have no alpha then."""

    name = "E2E"

    def __init__(self, dirname: str | None = None) -> None:
        """Offers itself; the host finds the class."""
        super().__init__(False)
        self.scalers = [UpscalerData("E2E", None, self, 2)]

    def do_upscale(self, img: Image.Image, selected_model: str | None = None) -> Image.Image:
        """Returns the image at twice its size."""
        return img.convert("RGB").resize((2 * img.width, 2 * img.height), Image.BICUBIC)

    def load_model(self, path: str) -> None:
        """There is none."""


def start_another(p: Any, image: Image.Image) -> Any:
    """Returns what a job on an image makes, with all scripts and arguments of the outer one."""
    inner = processing.StableDiffusionProcessingImg2Img(
        init_images=[image],
        denoising_strength=0.5,
        prompt=p.prompt,
        seed=7,
        steps=p.steps,
        width=image.width,
        height=image.height,
        sampler_name=p.sampler_name,
        do_not_save_samples=True,
        do_not_save_grid=True,
    )
    inner.scripts = scripts.scripts_img2img
    args = [None] * (1 + max(s.args_to for s in inner.scripts.alwayson_scripts))
    for other in p.scripts.alwayson_scripts:
        for twin in inner.scripts.alwayson_scripts:
            if twin.title() == other.title() and not twin.title().startswith("E2E"):
                given = p.script_args[other.args_from : other.args_to]
                args[twin.args_from : twin.args_from + len(given)] = given
    args[0] = 0
    inner.script_args = tuple(args)
    with closing(inner):
        return processing.process_images(inner)


class E2EEdits(scripts.Script):
    """The always-on script."""

    def title(self) -> str:
        """Names the script for the API."""
        return "E2E Edits"

    def show(self, is_img2img: bool) -> Any:
        """Runs on every job of both tabs."""
        return scripts.AlwaysVisible

    def ui(self, is_img2img: bool) -> list[Any]:
        """Declares the arguments."""
        return [
            gr.Textbox(label="Kind of edit", value="", visible=False),
            gr.Textbox(label="Nested folder", value="", visible=False),
        ]

    def postprocess_batch_list(
        self, p: Any, pp: Any, kind: str | None = "", *args: Any, **kwargs: Any
    ) -> None:
        """Changes a batch's list of images."""
        if kind == "turn":
            pp.images.reverse()
        elif kind == "insert":
            pp.images.insert(0, torch.full_like(pp.images[0], 0.5))
            for name in ("prompts", "negative_prompts", "seeds", "subseeds"):
                values = getattr(p, name)
                setattr(p, name, [values[0], *values])

    def postprocess_image(
        self, p: Any, pp: Any, kind: str | None = "", folder: str = "", *args: Any
    ) -> None:
        """Edits one image."""
        if kind == "grow":
            size = tuple(side * 3 // 2 for side in pp.image.size)
            pp.image = pp.image.resize(size, Image.LANCZOS)
        elif kind in ("repaint", "nested"):
            patch: Any = (250, 20, 120)
            if kind == "nested":
                [made] = start_another(p, pp.image).images[-1:]
                Path(folder).mkdir(parents=True, exist_ok=True)
                made.save(Path(folder) / f"{len(list(Path(folder).iterdir()))}.png")
                patch = made.crop(PART)
            pp.image = pp.image.copy()
            pp.image.paste(patch, PART)


def add_routes(demo: Any, app: Any) -> None:
    """Adds the way to the Extras tab's batch over a folder, which the host's API lacks."""

    @app.post("/e2e/extras")
    def extras(body: dict[str, Any]) -> dict[str, Any]:
        settings = {
            "gfpgan_visibility": 0,
            "codeformer_visibility": 0,
            "codeformer_weight": 0,
            "upscaling_resize_w": 512,
            "upscaling_resize_h": 512,
            "upscaling_crop": True,
            "extras_upscaler_2": "None",
            "extras_upscaler_2_visibility": 0,
            "upscale_first": False,
        }
        made = postprocessing.run_extras(
            extras_mode=2,
            resize_mode=0,
            image=None,
            image_folder=None,
            show_extras_results=True,
            **{**settings, **body},
        )
        return {"modes": [image.mode for image in made[0]]}

    @app.get("/e2e/steps")
    def names() -> list[str]:
        return [step.name for step in scripts.scripts_postproc.scripts_in_preferred_order()]

    @app.post("/e2e/steps")
    def steps(body: dict[str, Any]) -> dict[str, str]:
        # WebUIs differ in how they write a step's name.
        written = {name.lower(): name for name in names()}
        steps = {written[name.lower()]: values for name, values in body["steps"].items()}
        args = scripts.scripts_postproc.create_args_for_run(steps)
        image = decode_base64_to_image(body["image"])
        run = postprocessing.run_postprocessing
        # One WebUI has a video behind what all of them are given.
        given = [0, image, None, "", "", True, None][: run.__code__.co_argcount]
        made, *_ = run(*given, *args, save_output=False)
        return {"image": encode_pil_to_base64(made[0]).decode()}


def lend_models(demo: Any, app: Any) -> None:
    """Puts the restorer in the place of models that nobody has downloaded."""
    gfpgan_model.gfpgan_face_restorer = codeformer_model.codeformer = Restorer()


script_callbacks.on_app_started(lend_models)


def offer_upscaler() -> None:
    """Adds the upscaler where the host does not look for such classes; then the page is built."""
    if all(one.name != RgbUpscaler.name for one in shared.sd_upscalers):
        shared.sd_upscalers += RgbUpscaler().scalers


shared.face_restorers.append(Restorer())
script_callbacks.on_before_ui(offer_upscaler)
script_callbacks.on_app_started(add_routes)
