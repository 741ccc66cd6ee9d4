"""Both steps of a chain in one request."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from client import Client, Result, encode_image
from forge_server import ForgeServer
from layers import assert_same, conditioning, notes, request
from pictures import glass_ball, lake_scene
from random_weights import SDXL

from lib_layerdiffuse.methods import Layer, find_method
from lib_layerdiffuse.settings.chains import SECOND_STEPS, second_method

SMALL = {"width": 128, "height": 128}
METHODS = [find_method("bg_to_blended_sdxl"), find_method("fg_to_blended_sdxl")]


def names(result: Result) -> list[str | None]:
    return result.info["extra_generation_params"]["layerdiffusion_layers"]


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.id)
def test_a_chain_is_two_jobs_by_hand(
    client: Client, plain: Callable[..., Result], tmp_path: Path, method
) -> None:
    before = plain(SDXL, **SMALL)
    client.use_checkpoint(SDXL)
    job = SMALL | {"steps": 3}  # UniPC takes no fewer.
    after, author = second_method(method), SECOND_STEPS[second_method(method).id]
    (made,), (given,) = after.outputs, method.inputs
    own = {"blend_additional_prompt": "on a lake", f"{made.value}_additional_prompt": "alone"}
    chain = client.txt2img(scripts=request(method.id, chain=True, **own), **job)
    assert names(chain) == ["blended", made.value, f"{given.value}-given"]
    assert notes(chain) == []

    first = client.txt2img(scripts=request(method.id), prompt="on a lake, a glass ball", **job)
    np.testing.assert_array_equal(chain.images[0], first.images[0])
    pictures = {**conditioning(method), "blend_image": encode_image(chain.images[0])}
    by_hand = {"method": after.id, "ending_step": author.stop_at, **pictures}
    second = client.txt2img(
        scripts={"layerdiffuse": [by_hand]},
        prompt="alone, a glass ball",
        sampler_name=author.sampler,
        **job,
    )
    np.testing.assert_array_equal(chain.images[1], second.images[0])
    assert chain.images[1].shape[2] == (4 if made is Layer.FG else 3)
    picture = lake_scene(256) if given is Layer.BG else glass_ball(256)
    assert chain.images[2].shape == (128, 128, picture.shape[2])

    texts = chain.infotexts
    assert "layerdiffusion_chain: True" in texts[0]
    assert texts[0].startswith("a glass ball\n")
    assert "Sampler: Euler," in texts[0]
    assert texts[1].startswith("alone, a glass ball\n")
    assert f"Sampler: {author.sampler}," in texts[1]
    assert f"layerdiffusion_ending_step: {author.stop_at:g}" in texts[1]
    assert f"layerdiffusion_method: {after.label}" in texts[1]
    assert "layerdiffusion_chain" not in texts[1]
    assert_same(before, client.txt2img(record=tmp_path / "after", **SMALL))


def test_each_set_has_its_own_second_step_and_file(
    forge: ForgeServer, client: Client, tmp_path: Path
) -> None:
    client.use_checkpoint(SDXL)
    made = client.txt2img(
        scripts=request("bg_to_blended_sdxl", chain=True),
        batch_size=2,
        save_images=True,
        override_settings={"layerdiffuse_layer_files": ["zip"], "return_grid": False},
        **SMALL,
    )
    assert names(made) == ["blended", "fg", "blended", "fg", "bg-given"]
    assert made.info["all_seeds"] == [1234, 1234, 1235, 1235]
    assert not np.array_equal(made.images[1], made.images[3])
    files = made.info["extra_generation_params"]["layerdiffusion_files"]
    assert len(files) == 2
    for file in files:
        with zipfile.ZipFile(forge.data_dir / file) as archive:
            layers = json.loads(archive.read("layers.json"))["layers"]
        assert [layer["name"] for layer in layers] == ["Background", "Foreground", "Blended"]
    last = (forge.data_dir / "params.txt").read_text(encoding="utf8")
    assert "layerdiffusion_chain: True" in last


def test_an_interrupt_in_the_first_step_leaves_the_second_out(
    client: Client, tmp_path: Path
) -> None:
    client.use_checkpoint(SDXL)
    made = client.txt2img(
        scripts=request("bg_to_blended_sdxl", chain=True), interrupt_at=1, steps=3, **SMALL
    )
    assert names(made) == ["blended", "bg-given"]
    assert notes(made) == ["the second step was left out where the first was stopped."]


def test_a_chain_starts_from_img2img_too(client: Client) -> None:
    client.use_checkpoint(SDXL)
    made = client.img2img(
        [lake_scene(128)],
        scripts=request("bg_to_blended_sdxl", chain=True),
        denoising_strength=0.6,
        **SMALL,
    )
    assert names(made) == ["blended", "fg", "bg-given"]
    assert "Denoising strength: 0.6" in made.infotexts[0]
    assert "Denoising strength" not in made.infotexts[1]
