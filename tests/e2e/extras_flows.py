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


def _step(forge: ForgeServer, **steps: dict[str, Any]) -> np.ndarray:
    """Returns what steps of the Extras tab make of the ball, by their names with _ for blanks."""
    named = {name.replace("_", " "): values for name, values in steps.items()}
    others = {"Upscale": UPSCALE | UPSCALES_NOT, "Keep transparency": {"keep": True}}
    body = {"image": encode_image(glass_ball(SIDE)), "steps": others | named}
    return decode_image(Client(forge.url).call("POST", "/e2e/steps", body)["image"])


UPSCALE = {
    "upscale_enabled": True,
    "upscale_mode": 0,
    "upscale_by": 2,
    "max_side_length": 0,
    "upscaler_1_name": "E2E",
    "upscaler_2_name": "None",
    "upscaler_2_visibility": 0,
}

UPSCALES_NOT = {"upscale_enabled": False, "upscale_by": 1, "upscaler_1_name": "None"}
"""What leaves an image's size as it is; one WebUI has no switch for that."""


def _upscale(forge: ForgeServer) -> None:
    _check(_step(forge, Upscale=UPSCALE))


def _restored(got: np.ndarray) -> None:
    """Checks for the ball with other colours in its upper half, and its own alpha."""
    ball, half = glass_ball(SIDE), SIDE // 2
    np.testing.assert_array_equal(got[..., 3], ball[..., 3])
    seen = ball[..., 3] == 255
    np.testing.assert_array_equal(got[half:][seen[half:]], ball[half:][seen[half:]])
    assert (got[:half][seen[:half]][:, :3] == 255 - ball[:half][seen[:half]][:, :3]).all()


def _gfpgan(forge: ForgeServer) -> None:
    _restored(_step(forge, GFPGAN={"enable": True, "gfpgan_visibility": 1}))


def _codeformer(forge: ForgeServer) -> None:
    values = {"enable": True, "codeformer_visibility": 1, "codeformer_weight": 0.5}
    _restored(_step(forge, CodeFormer=values))


def _focal_crop(forge: ForgeServer) -> None:
    to_size = UPSCALE | {"upscale_mode": 1, "upscale_to_width": SIDE, "upscale_to_height": 48}
    weights = {"face_weight": 0.9, "entropy_weight": 0.15, "edges_weight": 0.5, "debug": False}
    to_size["upscale_crop"] = False
    _step(forge, Upscale=to_size, Auto_focal_point_crop={"enable": True, **weights})


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
    "Upscale": _upscale,
    "GFPGAN": _gfpgan,
    "CodeFormer": _codeformer,
    "Auto focal point crop": _focal_crop,
}
