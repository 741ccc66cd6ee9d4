"""All ten methods, each between two plain images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from client import Client, Result
from flow_jobs import CHECKPOINTS
from forge_server import ForgeServer
from layers import assert_same, check_layers, difference, generate, notes
from PIL import Image
from random_weights import SD15, SDXL

from lib_layerdiffuse.methods import METHODS, Arch, LayerMethod

Plain = Callable[..., Result]
SMALL = {"width": 128, "height": 128}


def methods_of(arch: Arch) -> list[LayerMethod]:
    return [m for m in METHODS if m.arch is arch]


def named(method: LayerMethod) -> str:
    return method.id


BY_FAMILY = methods_of(Arch.SD15) + methods_of(Arch.SDXL)


@pytest.mark.parametrize("method", BY_FAMILY, ids=named)
def test_method_between_two_plain_pictures(
    client: Client, plain: Plain, tmp_path: Path, method: LayerMethod
) -> None:
    checkpoint = CHECKPOINTS[method.arch]
    before, same_size = plain(checkpoint, **SMALL), plain(checkpoint)
    client.use_checkpoint(checkpoint)
    made = generate(client, method.id, tmp_path / "layers")
    for layer, image in zip(method.outputs, made.images, strict=True):  # For whoever will look.
        Image.fromarray(image).save(tmp_path / f"{method.id}-{layer.value}.png")
    check_layers(made, method)
    assert np.abs(made.latents[0] - same_size.latents[0]).max() > 0.01, "the method did nothing"
    after = client.txt2img(record=tmp_path / "after", **SMALL)
    assert_same(before, after)
    assert after.run["checksum"] == before.run["checksum"]
    assert after.run["overridden"] == []


@pytest.mark.parametrize(
    "method_id", ["joint_sd15", "bg_to_fg_sd15", "fg_attn_sdxl", "fg_to_blended_sdxl"]
)
def test_strength_and_stop_at(client: Client, plain: Plain, tmp_path: Path, method_id: str) -> None:
    method = next(m for m in METHODS if m.id == method_id)
    checkpoint = CHECKPOINTS[method.arch]
    job = {**SMALL, "steps": 3}
    before = plain(checkpoint, batch_size=method.frames, **job)
    client.use_checkpoint(checkpoint)

    def run(name: str, **settings: float) -> Result:
        return generate(client, method_id, tmp_path / name, settings=settings, **job)

    full, half, none = run("full"), run("half", ending_step=0.5), run("none", ending_step=0)
    off = run("off", weight=0)
    np.testing.assert_array_equal(none.latents, before.latents)
    np.testing.assert_array_equal(off.latents, before.latents)
    assert difference(half, full) > 0.001
    assert difference(half, none) > 0.001
    assert difference(run("light", weight=0.5), full) > 0.001
    assert_same(full, run("full again"))
    after = client.txt2img(batch_size=method.frames, record=tmp_path / "after", **job)
    assert_same(before, after)


@pytest.mark.parametrize(("width", "height"), [(320, 192), (264, 200)])
@pytest.mark.parametrize("method_id", ["fg_attn_sd15", "bg_to_fg_sd15", "bg_blended_to_fg_sdxl"])
def test_other_sizes(
    client: Client, tmp_path: Path, method_id: str, width: int, height: int
) -> None:
    method = next(m for m in METHODS if m.id == method_id)
    client.use_checkpoint(CHECKPOINTS[method.arch])
    made = generate(client, method_id, tmp_path / "run", width=width, height=height)
    check_layers(made, method, width=width, height=height)


@pytest.mark.parametrize("method_id", ["bg_to_fg_sd15", "fg_to_blended_sdxl"])
def test_two_sets_and_two_batches(client: Client, tmp_path: Path, method_id: str) -> None:
    method = next(m for m in METHODS if m.id == method_id)
    client.use_checkpoint(CHECKPOINTS[method.arch])
    both = generate(client, method_id, tmp_path / "both", batch_size=2, n_iter=2, **SMALL)
    check_layers(both, method, sets=4, **SMALL)
    for k in (1, 3):
        seed = both.info["all_seeds"][k * method.frames]
        alone = generate(client, method_id, tmp_path / f"alone{k}", seed=seed, **SMALL)
        rows = both.latents[k * method.frames : (k + 1) * method.frames]
        # Equal but for the rounding of another batch size; another seed differs by tens.
        assert np.abs(alone.latents - rows).max() < 1e-3 * np.abs(rows).max()


def test_positional_arguments_count_pictures(client: Client, tmp_path: Path) -> None:
    client.use_checkpoint(SD15)
    args = [True, "(SD1.5) Generate Everything Together (need batch size 3)"]
    made = client.txt2img(
        scripts={"layerdiffuse": args}, batch_size=2, record=tmp_path / "run", **SMALL
    )
    method = next(m for m in METHODS if m.id == "joint_sd15")
    check_layers(made, method, **SMALL)
    assert notes(made) == ["3 images instead of 2, to make whole sets."]
    by_name = generate(client, "joint_sd15", tmp_path / "named", **SMALL)
    assert_same(made, by_name)


def test_layer_prompts(client: Client, tmp_path: Path) -> None:
    client.use_checkpoint(SD15)

    def run(name: str, **settings: str) -> Result:
        return generate(client, "joint_sd15", tmp_path / name, settings=settings, **SMALL)

    absent = run("absent")
    short = run("short", fg_additional_prompt="an old man", bg_additional_prompt="a chair")
    long = run("long", fg_additional_prompt=", ".join(f"thing number {i}" for i in range(40)))
    negative = run("negative", bg_negative_prompt="people")
    for other in (short, long, negative):
        assert difference(absent, other) > 0.001
    assert absent.infotexts[0].startswith("a glass ball\n")
    assert short.infotexts[0].startswith("a glass ball\n")
    assert "layerdiffusion_fg_additional_prompt: an old man" in short.infotexts[0]
    assert_same(absent, run("absent again"))


def test_each_family_uses_its_own_decoder(forge: ForgeServer, tmp_path: Path) -> None:
    def run(name: str, method_id: str, checkpoint: str) -> Result:
        client = Client(forge.url)
        client.use_checkpoint(checkpoint)
        return generate(client, method_id, tmp_path / name, **SMALL)

    first = run("xl", "fg_attn_sdxl", SDXL)
    other = run("sd15", "fg_attn_sd15", SD15)
    assert_same(first, run("xl again", "fg_attn_sdxl", SDXL))
    forge.restart()
    assert_same(other, run("sd15 first", "fg_attn_sd15", SD15))
