"""The API of a real WebUI: the requests of docs/api.md, its password, files and addresses."""

from __future__ import annotations

import base64
import json
import urllib.parse
import urllib.request
from collections.abc import Callable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
from api_docs import Example, examples
from client import ApiError, Client, Result, decode_image, encode_image
from forge_server import ForgeServer
from layers import SIZE, conditioning, generate, notes
from model_cache import families
from pictures import glass_ball, lake_scene
from PIL import Image
from random_weights import SD15, SDXL

from lib_layerdiffuse.methods import METHODS, find_method

SMALL = {"width": 128, "height": 128}
CHECKPOINTS = {"SD1.5": SD15, "SDXL": SDXL}


def outputs(forge: ForgeServer) -> Path:
    folder = forge.data_dir / "outputs" / "txt2img-images"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.mark.parametrize("example", examples(), ids=str)
def test_every_request_of_the_page_is_answered_as_told(
    forge: ForgeServer, client: Client, example: Example
) -> None:
    client.use_checkpoint(CHECKPOINTS[example.family])
    Image.fromarray(lake_scene(64)).save(outputs(forge) / "blended.png")
    text = json.dumps(example.body).replace("/webui/", f"{forge.data_dir.resolve().as_posix()}/")
    body = json.loads(text) and json.loads(text) | SMALL | {"steps": 2}
    example.check(*client.request(example.verb, example.path, body))


def test_the_schema_is_in_the_hosts_own_description(client: Client) -> None:
    paths = client.call("GET", "/openapi.json")["paths"]
    assert {"/layerdiffuse/methods", "/layerdiffuse/schema"} <= set(paths)


def test_files_outside_the_output_folders_are_refused(
    forge: ForgeServer, client: Client, tmp_path: Path
) -> None:
    client.use_checkpoint(SD15)
    method = find_method("fg_to_bg_sd15")
    ball = Image.fromarray(glass_ball(SIZE))
    inside, outside = outputs(forge) / "ball.png", tmp_path / "ball.png"
    for path in (inside, outside):
        ball.save(path)
    by_path = generate(
        client, method.id, tmp_path / "a", settings={"fg_image": str(inside)}, **SMALL
    )
    by_text = generate(client, method.id, tmp_path / "b", **SMALL)
    assert (by_path.images[0] == by_text.images[0]).all()
    for path in (outside, forge.data_dir / "config.json"):
        with pytest.raises(ApiError) as caught:
            generate(client, method.id, tmp_path / "c", settings={"fg_image": str(path)}, **SMALL)
        assert caught.value.status == 422
        assert caught.value.body["detail"]["field"] == "fg_image"


def test_addresses_go_by_the_hosts_options(client: Client, tmp_path: Path) -> None:
    client.use_checkpoint(SD15)
    before = client.options()["api_enable_requests"]
    address = {"fg_image": "http://127.0.0.1:9/a.png"}
    try:
        for enabled, words in ((True, "local resource"), (False, "Requests not allowed")):
            client.set_options(api_enable_requests=enabled)
            with pytest.raises(ApiError) as caught:
                generate(client, "fg_to_bg_sd15", tmp_path / "run", settings=address, **SMALL)
            assert caught.value.status == 422
            assert words in caught.value.body["detail"]["message"]
    finally:
        client.set_options(api_enable_requests=before)


def test_an_allowed_address_is_fetched(client: Client, tmp_path: Path) -> None:
    client.use_checkpoint(SD15)
    Image.fromarray(glass_ball(SIZE)).save(tmp_path / "ball.png")
    folder = partial(SimpleHTTPRequestHandler, directory=tmp_path)
    before = client.options()["api_forbid_local_requests"]
    client.set_options(api_forbid_local_requests=False)
    try:
        with ThreadingHTTPServer(("127.0.0.1", 0), folder) as web:
            Thread(target=web.serve_forever, daemon=True).start()
            address = {"fg_image": f"http://127.0.0.1:{web.server_port}/ball.png"}
            fetched = generate(client, "fg_to_bg_sd15", tmp_path / "a", settings=address, **SMALL)
            web.shutdown()
    finally:
        client.set_options(api_forbid_local_requests=before)
    given = generate(client, "fg_to_bg_sd15", tmp_path / "b", **SMALL)
    np.testing.assert_array_equal(fetched.latents, given.latents)


def test_options_act_on_all_jobs_or_on_one(client: Client, tmp_path: Path) -> None:
    client.use_checkpoint(SD15)
    quick = {"layerdiffuse_decoder_views": 1, "layerdiffuse_outputs": ["Matte"]}

    def make(name: str, **more: Any) -> Result:
        return generate(client, "fg_attn_sd15", tmp_path / name, **SMALL, **more)

    client.set_options(**quick)
    try:
        by_page = make("page")
    finally:
        client.set_options(layerdiffuse_decoder_views=8, layerdiffuse_outputs=[])
    assert by_page.info["extra_generation_params"]["layerdiffusion_layers"] == ["fg", "fg-matte"]
    np.testing.assert_array_equal(by_page.images[1][..., 0], by_page.images[0][..., 3])
    by_job = make("job", override_settings=quick)
    for one, other in zip(by_job.images, by_page.images, strict=True):
        np.testing.assert_array_equal(one, other)
    [full] = make("full").images  # The override has ended with its job.
    assert (full != by_page.images[0]).any(), "one view gives what eight give"


def test_what_is_the_owners_cannot_be_set_by_programs(client: Client, tmp_path: Path) -> None:
    client.use_checkpoint(SD15)
    bad = {"layerdiffuse_models_folders": ["/nas"], "layerdiffuse_pictures_count": 0}
    client.set_options(**bad)  # As options they would be refused, wherever they act.
    assert client.request("GET", "/layerdiffuse/methods")[0] == 200
    for name, value in bad.items():
        with pytest.raises(ApiError) as caught:
            generate(client, "fg_attn_sd15", tmp_path, override_settings={name: value}, **SMALL)
        assert caught.value.status == 422
        assert caught.value.body["detail"]["field"] == name


def test_a_plot_over_the_api(client: Client) -> None:
    client.use_checkpoint(SD15)
    scripts = {info["name"]: info for info in client.script_info() if not info["is_img2img"]}
    values = [arg["value"] for arg in scripts["x/y/z plot"]["args"]]
    choices = scripts["x/y/z plot"]["args"][0]["choices"]
    labels = [label for label in choices if "LayerDiffuse" in label]
    assert len(labels) == 7
    assert len(set(labels)) == 7

    def plot(weights: str) -> dict[str, Any]:
        args = list(values)
        args[:3] = choices.index("[LayerDiffuse] Weight"), weights, []
        args[3] = args[6] = 0
        arguments = {"layerdiffuse": {"args": [{"method": "fg_attn_sd15"}]}}
        body = {
            "prompt": "a glass ball",
            "seed": 1,
            "steps": 2,
            **SMALL,
            "script_name": "x/y/z plot",
            "script_args": args,
            "alwayson_scripts": arguments,
        }
        return client.call("POST", "/sdapi/v1/txt2img", body)

    answer = plot("0, 1")
    texts = json.loads(answer["info"])["infotexts"]
    assert decode_image(answer["images"][0]).shape[1] > 2 * SMALL["width"] - 1
    assert any("layerdiffusion_weight: 0" in text for text in texts)
    with pytest.raises(ApiError) as caught:
        plot("5")
    assert caught.value.status == 422
    assert caught.value.body["detail"]["field"] == "weight"


def test_progress_tells_of_the_decoding(client: Client, tmp_path: Path) -> None:
    client.use_checkpoint(SD15)
    job = Thread(target=generate, args=(client, "fg_attn_sd15", tmp_path / "run"))
    told = set()
    job.start()
    while job.is_alive():
        told.add(client.progress().get("textinfo"))
        job.join(0.05)
    assert any(text and "transparency, view" in text for text in told), told
    assert client.progress().get("textinfo") is None


def test_an_interrupt_while_decoding_keeps_the_views_so_far(client: Client, tmp_path: Path) -> None:
    client.use_checkpoint(SD15)
    made: list[Result] = []
    job = Thread(
        target=lambda: made.append(generate(client, "fg_attn_sd15", tmp_path / "run", **SMALL))
    )
    job.start()
    while job.is_alive() and "view 2 of 8" not in (client.progress().get("textinfo") or ""):
        job.join(0.02)
    client.interrupt()
    job.join()
    [result] = made
    [note] = [text for text in notes(result) if text.startswith("stopped after")]
    assert 2 <= int(note.split()[2]) < 8, note
    assert result.images[0].shape == (128, 128, 4)
    again = generate(client, "fg_attn_sd15", tmp_path / "again", **SMALL)
    np.testing.assert_array_equal(again.latents, result.latents)
    assert (again.images[0] != result.images[0]).any()
    assert not any("stopped" in text for text in notes(again))


def test_the_hosts_password_guards_our_addresses(
    make_forge: Callable[..., ForgeServer], tmp_path: Path
) -> None:
    with make_forge(tmp_path / "data", arguments=["--api-auth=me:secret"]) as server:
        client = Client(server.url)
        for path in ("/layerdiffuse/methods", "/layerdiffuse/schema"):
            assert client.request("GET", path)[0] == 401
            request = urllib.request.Request(server.url + path)
            word = base64.b64encode(b"me:secret").decode()
            request.add_header("Authorization", f"Basic {word}")
            with urllib.request.urlopen(request, timeout=60) as answer:
                assert answer.status == 200


def test_without_the_api_the_pages_login_guards_them(
    make_forge: Callable[..., ForgeServer], tmp_path: Path
) -> None:
    server = make_forge(tmp_path / "data", arguments=["--gradio-auth=me:secret"], web_page=True)
    server.arguments.remove("--api")
    paths = ("/layerdiffuse/methods", "/layerdiffuse/schema")
    with server:
        for path in paths:
            assert Client(server.url).request("GET", path)[0] == 401
        visitor = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
        form = urllib.parse.urlencode({"username": "me", "password": "secret"}).encode()
        visitor.open(f"{server.url}/login", form, timeout=60).close()
        for path in paths:
            with visitor.open(server.url + path, timeout=60) as answer:
                assert answer.status == 200


def test_conditioning_by_every_name(client: Client, tmp_path: Path) -> None:
    """What `GET /layerdiffuse/methods` calls the inputs is what a job takes."""
    rows = {row["id"]: row for row in client.call("GET", "/layerdiffuse/methods")}
    for method in METHODS:
        assert set(conditioning(method)) == set(rows[method.id]["input_names"])
        assert rows[method.id]["weights"]["present"] == (method.arch in families())
    client.use_checkpoint(SD15)
    given = {"bg_image": encode_image(lake_scene(SIZE))}
    made = generate(client, "bg_to_fg_sd15", tmp_path / "run", settings=given, **SMALL)
    assert made.info["extra_generation_params"]["layerdiffusion_layers"] == ["fg", "blended"]
