"""Draws the pictures of the example workflows with the tiny family, in a few minutes on a CPU.

    python tests/comfy/make_thumbnails.py example_workflows

Each runs its workflow's method, in its order, in the standalone host: ComfyUI cannot load
checkpoints as small as the tiny family's. Where the workflow has a noise mask, what that keeps is
put back afterwards.

Args:
    The folder to write to.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from lib_layerdiffuse import tiny
from lib_layerdiffuse.imaging.images import ImageU8, ResizeMode, as_rgba, fit, from_u8, to_u8
from lib_layerdiffuse.imaging.masks import MaskSource, alpha_mask, put_back
from lib_layerdiffuse.methods import Layer, LayerMethod, find_method
from lib_layerdiffuse.outputs import over, preview
from lib_layerdiffuse.settings.layer_settings import LayerSettings
from lib_layerdiffuse.standalone.defaults import defaults
from lib_layerdiffuse.standalone.generation import Generation
from lib_layerdiffuse.standalone.models import ModelChoice, Models
from lib_layerdiffuse.standalone.run import run
from lib_layerdiffuse.standalone.two_steps import run_chain

_SIDE, _GAP, _PAPER, _LARGEST = 512, 8, (24, 24, 27), 60_000
_FG, _BG, _BLENDED = Layer.FG, Layer.BG, Layer.BLENDED
_MODELS = Models(tiny.layer_store)
_Set = dict[Layer, ImageU8]


def job(method: LayerMethod, prompts: dict[Layer, str], seed: int, **given: Any) -> Generation:
    """Returns what to draw.

    Args:
        method: The method.
        prompts: Of each layer.
        seed: Of the first layer.
        given: Layers to start from by their ids, and what `Generation` has of `init`.
    """
    author = defaults(method, tiny=True)
    images = {f"{layer.value}_image": given.pop(layer.value, None) for layer in Layer}
    settings: dict[str, Any] = {"method": method, "stop_at": author.stop_at}
    settings |= {name: from_u8(image) for name, image in images.items() if image is not None}
    settings |= {f"{layer.value}_prompt": text for layer, text in prompts.items()}
    side = {"width": author.side, "height": author.side}
    more = {"seed": seed, "steps": author.steps, "cfg": author.cfg, "sampler": author.sampler}
    several = len(prompts) > 1
    prompt = "" if several else next(iter(prompts.values()))
    return Generation(LayerSettings.from_args([settings]), prompt, **side, **more, **given)


def drawn(method_id: str, prompts: dict[Layer, str], seed: int, **given: Any) -> _Set:
    """Returns the layers of one set, and those that were given."""
    method = find_method(method_id)
    host, session = _MODELS.open(ModelChoice(), method.arch)
    made = run(job(method, prompts, seed, **given), session, host)
    return _known(given) | {image.layer: image.image for image in made}


def chain(method_id: str, prompts: dict[Layer, str], seed: int, **given: Any) -> _Set:
    """Returns the given layer, what both steps drew of it, in that order."""
    method = find_method(method_id)
    host, session = _MODELS.open(ModelChoice(), method.arch)
    steps = run_chain(job(method, prompts, seed, **given), session, host)
    return _known(given) | {image.layer: image.image for step in steps for image in step.images}


def _known(given: dict[str, Any]) -> _Set:
    return {layer: given[layer.value] for layer in Layer if layer.value in given}


def with_composite(layers: _Set) -> list[ImageU8]:
    """Returns a set's layers, then the foreground over the background."""
    return [*layers.values(), over(layers[_FG], layers[_BG])]


def pictures() -> dict[str, Callable[[], Sequence[ImageU8]]]:
    """Returns what draws each workflow's pictures, by its name."""
    ball, sunset, meadow = "a large blue glass ball", "a sunset", "a green meadow"
    alone = drawn("fg_attn_sd15", {_FG: ball}, 8)[_FG]
    mushroom = drawn("fg_attn_sdxl", {_FG: "a red mushroom"}, 4)[_FG]
    joint = drawn(
        "joint_sd15",
        {_FG: "a red mushroom", _BG: meadow, _BLENDED: f"a red mushroom, {meadow}"},
        4,
    )
    sky = drawn("fg_to_bg_sd15", {_BG: sunset, _BLENDED: f"{ball}, {sunset}"}, 1, fg=alone)
    behind, onto = {_BLENDED: f"{ball}, {sunset}"}, {_BLENDED: f"a yellow star, {sunset}"}
    from_fg = chain("fg_to_blended_sdxl", behind | {_BG: sunset}, 1, fg=alone)
    from_bg = chain("bg_to_blended_sdxl", onto | {_FG: "a yellow star"}, 1, bg=sky[_BG])

    def other_foreground() -> Sequence[ImageU8]:
        prompts = {_FG: "a purple butterfly", _BLENDED: f"a purple butterfly, {meadow}"}
        return with_composite(drawn("bg_to_fg_sd15", prompts, 1, bg=joint[_BG]))

    def redrawn(colour: str) -> ImageU8:
        prompt = {_FG: f"a {colour} mushroom"}
        return drawn("fg_attn_sdxl", prompt, 2, init=mushroom, denoise=0.6)[_FG]

    def inpainted() -> ImageU8:
        before = as_rgba(mushroom)
        keep = 1 - alpha_mask(before, MaskSource.VISIBLE)
        return to_u8(put_back(as_rgba(redrawn("yellow")), before, keep))

    return {
        "transparent_sd15": lambda: [alone],
        "transparent_sdxl": lambda: [mushroom],
        "transparent_sdxl_conv": lambda: [
            drawn("fg_conv_sdxl", {_FG: "a large blue soap bubble"}, 3)[_FG]
        ],
        "all_layers_sd15": lambda: with_composite(joint),
        "background_for_foreground_sd15": lambda: with_composite(sky),
        "foreground_for_background_sd15": other_foreground,
        "foreground_to_blended_sdxl": lambda: [alone, from_fg[_BLENDED]],
        "background_to_blended_sdxl": lambda: [sky[_BG], from_bg[_BLENDED]],
        "chain_from_foreground_sdxl": lambda: with_composite(from_fg),
        "chain_from_background_sdxl": lambda: with_composite(from_bg),
        "background_from_blended_sdxl": lambda: [*from_fg.values()],
        "foreground_from_blended_sdxl": lambda: [*from_bg.values()],
        "img2img_transparent_sdxl": lambda: [mushroom, redrawn("blue")],
        "inpaint_transparent_sdxl": lambda: [mushroom, inpainted()],
    }


def sheet(images: Sequence[ImageU8]) -> Image.Image:
    """Returns a square with one image, two that overlap, or up to four beside each other."""
    paper = Image.new("RGB", (_SIDE, _SIDE), _PAPER)
    if len(images) == 1:
        paper.paste(_tile(images[0], _SIDE))
        return paper
    if len(images) == 2:
        side = round(_SIDE * 0.6)
        places = [(0, 0), (_SIDE - side, _SIDE - side)]
    else:
        side = (_SIDE - _GAP) // 2
        far, middle = side + _GAP, (_SIDE - side) // 2
        last = [(0, far), (far, far)] if len(images) == 4 else [(middle, far)]
        places = [(0, 0), (far, 0), *last]
    for image, (left, top) in zip(images, places, strict=True):
        edge = (left - _GAP, top - _GAP, left + side + _GAP, top + side + _GAP)
        ImageDraw.Draw(paper).rectangle(edge, _PAPER)
        paper.paste(_tile(image, side), (left, top))
    return paper


def _tile(image: ImageU8, side: int) -> Image.Image:
    large = fit(as_rgba(image), side, side, ResizeMode.STRETCH)
    return Image.fromarray(np.ascontiguousarray(preview(large)))


def main(folder: str) -> None:
    """Writes them."""
    for name, draw in pictures().items():
        path = Path(folder) / f"{name}.jpg"
        sheet(draw()).save(path, quality=88, optimize=True)
        assert path.stat().st_size <= _LARGEST, path
        print(path)


if __name__ == "__main__":
    main(*sys.argv[1:])
