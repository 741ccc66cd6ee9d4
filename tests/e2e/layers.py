"""Requests with a layer method, and what must hold of every answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from client import DEFAULTS, Client, Result, encode_image
from pictures import glass_ball, lake_scene

from lib_layerdiffuse.images import composite, from_u8, to_u8
from lib_layerdiffuse.methods import Layer, LayerMethod, find_method

SIZE = 256
_API_NAMES = {Layer.FG: "fg_image", Layer.BG: "bg_image", Layer.BLENDED: "blend_image"}


def conditioning(method: LayerMethod, size: int = SIZE) -> dict[str, str]:
    """Returns the pictures that a method needs, by their names in the API."""
    fg_u8, bg_u8 = glass_ball(size), lake_scene(size)
    blended_u8 = to_u8(composite(from_u8(fg_u8), from_u8(bg_u8)))
    given = {Layer.FG: fg_u8, Layer.BG: bg_u8, Layer.BLENDED: blended_u8}
    return {_API_NAMES[layer]: encode_image(given[layer]) for layer in method.inputs}


def request(method_id: str, **settings: Any) -> dict[str, list[Any]]:
    """Returns the always-on arguments for one method with the pictures that it needs."""
    method = find_method(method_id)
    return {"layerdiffuse": [{"method": method_id, **conditioning(method), **settings}]}


def generate(client: Client, method_id: str, record: Path, **options: Any) -> Result:
    """Runs one method; `settings` are its own, the rest are the request's fields."""
    settings = options.pop("settings", {})
    scripts = request(method_id, **settings)
    return client.txt2img(scripts=scripts, record=record, **options)


def check_layers(result: Result, method: LayerMethod, sets: int = 1, **size: int) -> None:
    """Checks the pictures' number, size, kind and seeds, and that alpha really varies."""
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


def assert_same(first: Result, second: Result) -> None:
    """Checks for the same latents and pictures, bit for bit."""
    np.testing.assert_array_equal(first.latents, second.latents)
    for one, other in zip(first.images, second.images, strict=True):
        np.testing.assert_array_equal(one, other)


def difference(first: Result, second: Result) -> float:
    """Returns the largest difference of the latents."""
    return float(np.abs(first.latents - second.latents).max())


def notes(result: Result) -> list[str]:
    """Returns what the extension noted of a job."""
    return result.info["extra_generation_params"].get("layerdiffusion_notes", [])
