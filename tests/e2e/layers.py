"""Requests with a layer method, and what must hold of every answer.

Environment:
    LAYERDIFFUSE_E2E_IMAGE: An RGBA image, in place of the drawn one that methods are given.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from client import DEFAULTS, Client, Result, encode_image
from model_cache import cache_folder
from pictures import glass_ball, lake_scene
from PIL import Image
from safetensors.torch import load_file

from lib_layerdiffuse.codec.transparent import TransparentDecoder, rgba_u8
from lib_layerdiffuse.imaging.images import composite, from_u8, to_u8
from lib_layerdiffuse.methods import DECODERS, Arch, Layer, LayerMethod, find_method

SIZE = 256
SCALES = {Arch.SD15: 0.18215, Arch.SDXL: 0.13025}
"""The factors between the VAE's and the sampler's latents."""

_API_NAMES = {Layer.FG: "fg_image", Layer.BG: "bg_image", Layer.BLENDED: "blend_image"}


def given_images(size: int = SIZE) -> dict[Layer, np.ndarray]:
    """Returns what methods are given as each layer, uint8: the foreground RGBA, the others RGB."""
    fg_u8, bg_u8 = _foreground(size), lake_scene(size)
    blended_u8 = to_u8(composite(from_u8(fg_u8), from_u8(bg_u8)))
    return {Layer.FG: fg_u8, Layer.BG: bg_u8, Layer.BLENDED: blended_u8}


def conditioning(method: LayerMethod, size: int = SIZE) -> dict[str, str]:
    """Returns the images that a method needs, by their names in the API."""
    given = given_images(size)
    return {_API_NAMES[layer]: encode_image(given[layer]) for layer in method.inputs}


def _foreground(size: int) -> np.ndarray:
    path = os.environ.get("LAYERDIFFUSE_E2E_IMAGE")
    if path is None:
        return glass_ball(size)
    with Image.open(path) as image:
        return np.asarray(image.convert("RGBA").resize((size, size), Image.Resampling.LANCZOS))


def request(method_id: str, **settings: Any) -> dict[str, list[Any]]:
    """Returns the always-on arguments for one method with the images that it needs."""
    method = find_method(method_id)
    return {"layerdiffuse": [{"method": method_id, **conditioning(method), **settings}]}


def generate(client: Client, method_id: str, record: Path, **options: Any) -> Result:
    """Runs one method; `settings` are its own, the rest are the request's fields and scripts."""
    settings = options.pop("settings", {})
    scripts = request(method_id, **settings) | options.pop("scripts", {})
    return client.txt2img(scripts=scripts, record=record, **options)


def check_layers(result: Result, method: LayerMethod, sets: int = 1, **size: int) -> None:
    """Checks the images' number, size, kind and seeds, and that alpha really varies."""
    width, height = size.get("width", SIZE), size.get("height", SIZE)
    assert len(result.images) == sets * method.frames
    seeds = [DEFAULTS["seed"] + i for i in range(sets * method.frames)]
    assert result.info["all_seeds"] == seeds
    for row, image in enumerate(result.images):
        fg = method.outputs[row % method.frames] is Layer.FG
        assert image.shape == (height, width, 4 if fg else 3), row
        if fg:
            alpha = image[..., 3].astype(int)
            assert alpha.std() > 5, "alpha does not vary"
    for text in result.infotexts:
        assert f"layerdiffusion_method: {method.label}" in text
        assert "layerdiffusion_enabled: True" in text


@cache
def decoder(arch: Arch) -> TransparentDecoder:
    """Returns a family's decoder with the weights that the server has."""
    folder = cache_folder() / "layer_model"
    return TransparentDecoder.from_state_dict(load_file(folder / DECODERS[arch].filename))


def decoded(result: Result, row: int, arch: Arch, views: int = 1) -> np.ndarray:
    """Returns the RGBA that a row's own latent and pixels stand for, computed here."""
    latent = torch.from_numpy(result.latents[row : row + 1]) / SCALES[arch]
    pixels = torch.from_numpy(result.pixels[row : row + 1])
    return rgba_u8(decoder(arch).decode(pixels, latent, views=views))[0]


def assert_decoded(image: np.ndarray, result: Result, row: int, arch: Arch) -> None:
    """Checks that an image is what its own latent and pixels stand for, with one view.

    Two versions of torch may round one level apart.
    """
    wanted = decoded(result, row, arch)
    apart = np.abs(image.astype(int) - wanted)
    assert apart.max() <= 1, f"row {row}: {apart.max()} levels apart"
    assert wanted[..., 3].std() > 1


def assert_same(first: Result, second: Result) -> None:
    """Checks for the same latents and images, bit for bit."""
    np.testing.assert_array_equal(first.latents, second.latents)
    for one, other in zip(first.images, second.images, strict=True):
        np.testing.assert_array_equal(one, other)


def difference(first: Result, second: Result) -> float:
    """Returns the largest difference of the latents."""
    return float(np.abs(first.latents - second.latents).max())


def mode_of(path: Path) -> str:
    """Returns the mode of an image file, such as "RGBA"."""
    with Image.open(path) as image:
        return image.mode


def notes(result: Result) -> list[str]:
    """Returns what the extension noted of a job."""
    return result.info["extra_generation_params"].get("layerdiffusion_notes", [])
