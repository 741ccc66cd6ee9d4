"""Infotexts of a real WebUI: in its files, parsed by it, and sent back to its API."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from client import ApiError, Client, decode_image
from forge_server import ForgeServer
from layers import conditioning
from random_weights import SD15

from lib_layerdiffuse.methods import Layer, find_method
from lib_layerdiffuse.settings.infotext import from_infotext, images_of
from lib_layerdiffuse.settings.layer_settings import LayerSettings

SMALL = {"width": 64, "height": 64, "steps": 1, "sampler_name": "Euler", "seed": 5}
TO_BG = find_method("fg_to_bg_sd15")
ODD = {
    "method": "joint_sd15",
    "fg_additional_prompt": 'a "quoted" man, with: marks; \\ and {x|y}',
    "bg_additional_prompt": "two\nlines, ⛵",
    "blend_additional_prompt": '"all of it"',
    "fg_negative_prompt": "512x512",
    "bg_negative_prompt": "layerdiffusion_bg_negative_prompt",
    "blend_negative_prompt": "Steps: 20, Sampler: Euler",
    "weight": 0.123456789,
    "ending_step": 0.75,
    "resize_mode": "Just Resize",
    "show_matte": True,
}


@pytest.fixture(scope="module")
def client(
    make_forge: Callable[..., ForgeServer], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Client]:
    """A client of a server with its page, whose fields say what an infotext sets."""
    options = {"sd_model_checkpoint": SD15, "layerdiffuse_decoder_views": 1}
    folder = tmp_path_factory.mktemp("infotext")
    with make_forge(folder, web_page=True, options=options) as server:
        yield Client(server.url)


def send(client: Client, route: str, *args: Any, **fields: Any) -> dict[str, Any]:
    """Returns the answer to a request with these arguments of our script."""
    scene = conditioning(find_method("bg_to_fg_sd15"), 64)["bg_image"]
    if route == "img2img":
        fields |= {"init_images": [scene], "denoising_strength": 1}
    elif "infotext" in fields:  # What Forge would read from the infotext, and fail at by itself.
        fields["styles"] = []
    if args:
        fields |= {"alwayson_scripts": {"layerdiffuse": {"args": list(args)}}}
    return client.call("POST", f"/sdapi/v1/{route}", {"prompt": "a boat, at: sea"} | SMALL | fields)


def told(answer: dict[str, Any]) -> dict[str, Any]:
    return json.loads(answer["info"])


@pytest.mark.parametrize("route", ["txt2img", "img2img"])
def test_odd_values_come_back_from_the_file_and_make_the_same_again(
    client: Client, route: str
) -> None:
    answer = send(client, route, ODD)
    wanted = LayerSettings.from_args([ODD])
    for image in answer["images"][:3]:
        found = from_infotext(client.png_info(base64.b64decode(image))["parameters"])
        assert found == {name: getattr(wanted, name) for name in found}
        assert {
            f"{layer.value}_{kind}" for layer in Layer for kind in ("prompt", "negative_prompt")
        } <= {*found}
    again = send(client, route, infotext=told(answer)["infotexts"][0])
    for one, other in zip(again["images"], answer["images"], strict=True):
        np.testing.assert_array_equal(decode_image(one), decode_image(other))


@pytest.mark.parametrize("route", ["txt2img", "img2img"])
def test_a_picture_is_asked_for_where_an_infotext_cannot_bring_it(
    client: Client, route: str
) -> None:
    given = conditioning(TO_BG, 64)
    answer = send(client, route, {"method": TO_BG.id} | given)
    text = told(answer)["infotexts"][0]
    parsed = client.png_info(base64.b64decode(answer["images"][0]))["parameters"]
    assert images_of(parsed).keys() == {Layer.FG}
    with pytest.raises(ApiError) as caught:
        send(client, route, infotext=text)
    assert caught.value.status == 422
    assert caught.value.body["detail"]["field"] == "fg_image"
    again = send(client, route, given, infotext=text)
    for one, other in zip(again["images"], answer["images"], strict=True):
        np.testing.assert_array_equal(decode_image(one), decode_image(other))


def test_another_jobs_infotext_switches_off(client: Client) -> None:
    plain = send(client, "txt2img")
    again = send(client, "txt2img", infotext=told(plain)["infotexts"][0])
    assert "layerdiffusion" not in again["info"]
    assert [decode_image(i).shape for i in again["images"]] == [(64, 64, 3)]
