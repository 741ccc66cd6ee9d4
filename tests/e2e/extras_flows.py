"""One small run of each flow of docs/flows.md that does not know what made an image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from client import Client, decode_image, encode_image
from forge_server import ForgeServer
from pictures import glass_ball, lake_scene
from PIL import Image

SIDE = 64


def _single(forge: ForgeServer) -> None:
    answer = _post(forge, "single-image", image=encode_image(glass_ball(SIDE)))
    _check(decode_image(answer["image"]))


def _batch(forge: ForgeServer) -> None:
    pictures = {"a.png": glass_ball(SIDE), "b.png": lake_scene(SIDE)}
    files = [{"data": encode_image(picture), "name": n} for n, picture in pictures.items()]
    first, second = map(decode_image, _post(forge, "batch-images", imageList=files)["images"])
    _check(first)
    assert second.shape == (2 * SIDE, 2 * SIDE, 3)


def _folder(forge: ForgeServer) -> None:
    source, target = forge.data_dir / "flow-in", forge.data_dir / "flow-out"
    for folder in (source, target):
        folder.mkdir(exist_ok=True)
    Image.fromarray(glass_ball(SIDE)).save(source / "ball.png")
    body = {"extras_upscaler_1": "E2E", "upscaling_resize": 2}
    body |= {"input_dir": str(source), "output_dir": str(target)}
    Client(forge.url).call("POST", "/e2e/extras", body)
    (saved,) = target.glob("*.png")
    _check(np.asarray(Image.open(saved)))


def _post(forge: ForgeServer, route: str, **body: Any) -> Any:
    body = {"upscaling_resize": 2, "upscaler_1": "E2E"} | body
    return Client(forge.url).call("POST", f"/sdapi/v1/extra-{route}", body)


def _check(got: np.ndarray) -> None:
    """Checks for the ball at twice its size, with its alpha."""
    assert got.shape == (2 * SIDE, 2 * SIDE, 4)
    alpha = Image.fromarray(glass_ball(SIDE)[..., 3]).resize((2 * SIDE, 2 * SIDE), Image.BICUBIC)
    assert np.abs(got[..., 3].astype(int) - np.asarray(alpha)).max() <= 2


RUNS_FOR_ANY: dict[str, Callable[[ForgeServer], None]] = {
    "Extras, single image": _single,
    "Extras, several images": _batch,
    "Extras, folder": _folder,
}
