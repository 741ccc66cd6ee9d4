"""The smallest jobs of each flow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from client import Client, Result, encode_image
from layers import request
from pictures import glass_ball, lake_scene
from PIL import Image
from random_controlnet import NAMES
from random_weights import SD15, SDXL

from lib_layerdiffuse.methods import Arch

CHECKPOINTS = {Arch.SD15: SD15, Arch.SDXL: SDXL}
SMALL = {"width": 64, "height": 64, "steps": 1}
HIRES = {
    "enable_hr": True,
    "hr_scale": 2,
    "hr_upscaler": "Latent",
    "hr_second_pass_steps": 1,
    "hr_cfg": 7,
    "hr_cfg_scale": 7,  # As Forge Classic calls it, which falls over its own default.
    "hr_additional_modules": ["Use same choices"],
    "denoising_strength": 0.7,
}
FROM_PICTURE = {**SMALL, "steps": 2, "denoising_strength": 0.6, "resize_mode": 0}
UNDER_MASK = {"mask_blur": 2, "inpainting_fill": 1, "inpaint_full_res": False}
SOFT_INPAINTING = {"soft inpainting": [True, 1, 0.5, 4, 0, 0.5, 2]}
"""The host's script, on, with its own values."""


def plot(client: Client, **values: Any) -> dict[str, Any]:
    """Returns the fields of a request that runs an X/Y/Z plot and gives its cells after its grids.

    Args:
        client: The server's.
        **values: The plot's arguments; an axis by its label, such as `x_type="Seed"`.
    """
    infos = {info["name"]: info for info in client.script_info() if not info["is_img2img"]}
    choices = infos["x/y/z plot"]["args"][0]["choices"]
    kinds = {"y_type": 0, "z_type": 0}  # Nothing; the host would take its label for a number.
    kinds |= {k: choices.index(v) for k, v in values.items() if k.endswith("_type")}
    flags = {
        "draw_legend": False,
        "include_sub_images": True,
        "use_text_inputs_instead_of_dropdowns": True,
    }
    return client.script_args("x/y/z plot", **(flags | values | kinds))


def controlnet(client: Client, arch: Arch) -> str:
    """Returns the name of the server's ControlNet of a family."""
    names = client.call("GET", "/controlnet/model_list")["model_list"]
    return next(name for name in names if name.startswith(NAMES[arch]))


def control_unit(model: str, module: str = "None", weight: float = 1) -> dict[str, list[Any]]:
    """Returns the arguments of a unit of the built-in ControlNet."""
    picture = encode_image(lake_scene(64))
    unit = {"module": module, "model": model, "weight": weight, "image": picture}
    return {"controlnet": [{"enabled": True, "save_detected_map": False, **unit}]}


def mask(size: int = 64) -> str:
    """Returns a mask that is white in the middle, encoded."""
    part = np.zeros((size, size, 3), np.uint8)
    part[size // 4 : size // 2, size // 4 : size // 2] = 255
    return encode_image(part)


def folders(parent: Path, count: int = 2) -> tuple[str, str]:
    """Returns the names of a folder with transparent images and of an empty one."""
    source, target = parent / "source", parent / "target"
    for folder in (source, target):
        folder.mkdir(parents=True, exist_ok=True)
    for k in range(count):
        Image.fromarray(np.roll(glass_ball(64), 8 * k, 0)).save(source / f"{k}.png")
    return str(source), str(target)


def run(client: Client, flow: str, method_id: str, folder: Path, **options: Any) -> Result:
    """Runs one method in a flow.

    Args:
        client: The server's.
        flow: "txt2img", "hires", "img2img", "inpaint", "map", or "folder", the Batch tab.
        method_id: The method.
        folder: Where the Batch tab's folders are made.
        **options: Fields of the request; `settings` are the method's, `scripts` those of others.
    """
    scripts = request(method_id, **options.pop("settings", {})) | options.pop("scripts", {})
    if flow in ("txt2img", "hires"):
        hires = HIRES if flow == "hires" else {}
        return client.txt2img(scripts=scripts, **(SMALL | hires | options))
    fields: dict[str, Any] = {}
    if flow in ("inpaint", "map"):
        fields = {"mask": mask(), **UNDER_MASK}
    if flow == "map":
        scripts |= {"differential diffusion": [{"source": "Inpaint mask"}]}
    if flow == "folder":
        names = list(folders(folder))
        fields = {"script_name": "e2e folder", "script_args": names, "save_images": True}
    job = FROM_PICTURE | fields | options
    return client.img2img([glass_ball(64)], scripts=scripts, **job)
