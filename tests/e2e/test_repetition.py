"""Scripts and options that run many jobs: every image is what its own job alone would make."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import flow_jobs
import numpy as np
import pytest
from client import ApiError, Client, Result
from layers import assert_decoded, check_layers, generate, notes, request
from pictures import glass_ball
from random_weights import SD15

from lib_layerdiffuse.methods import Arch, find_method
from lib_layerdiffuse.outputs import preview

SIDE = 64
SMALL = {"width": SIDE, "height": SIDE, "steps": 1}
FG, JOINT, TO_FG = "fg_attn_sd15", "joint_sd15", "bg_to_fg_sd15"

pytestmark = pytest.mark.usefixtures("one_view")


@pytest.fixture(autouse=True)
def checkpoint(client: Client) -> None:
    """Chooses the checkpoint."""
    client.use_checkpoint(SD15)


def assert_pictures(got: list[np.ndarray], wanted: list[np.ndarray], levels: int = 0) -> None:
    """Checks for the same images, to so many levels, all of which differ."""
    assert len({image.tobytes() for image in wanted}) == len(wanted)
    for one, other in zip(got, wanted, strict=True):
        assert one.shape == other.shape
        assert np.abs(one.astype(int) - other).max() <= levels


def seen(rgba: np.ndarray) -> np.ndarray:
    """Returns a transparent image as a plot shows it."""
    return preview(rgba)


@pytest.mark.parametrize("method_id", [FG, JOINT])
def test_batch_count(client: Client, tmp_path: Path, method_id: str) -> None:
    method = find_method(method_id)
    made = generate(client, method_id, tmp_path / "run", n_iter=3, batch_size=2, **SMALL)
    check_layers(made, method, sets=6, **SMALL)
    for row in range(0, 6 * method.frames, method.frames):
        assert_decoded(made.images[row], made, row, Arch.SD15)
    assert len({image.tobytes() for image in made.images}) == 6 * method.frames


def plot(client: Client, method_id: str, **values: Any) -> Result:
    """Runs an X/Y/Z plot and gives its cells after its grids."""
    script = flow_jobs.plot(client, **values)
    return client.txt2img(scripts=request(method_id), **script, **SMALL)


def test_every_cell_of_a_plot(client: Client, tmp_path: Path) -> None:
    axes = {"x_type": "Seed", "x_values": "1,2"}
    axes |= {"y_type": "[LayerDiffuse] Weight", "y_values": "1,0.5"}
    made = plot(client, FG, **axes)
    grid, cells = made.images[0], made.images[-4:]
    wanted = []
    for weight in (1, 0.5):
        for seed in (1, 2):
            name = tmp_path / f"{weight} {seed}"
            alone = generate(client, FG, name, settings={"weight": weight}, seed=seed, **SMALL)
            wanted += alone.images
    assert_pictures(cells, wanted)
    rows = [np.concatenate([seen(i) for i in wanted[k : k + 2]], axis=1) for k in (0, 2)]
    np.testing.assert_array_equal(grid[..., :3], np.concatenate(rows))


def test_every_cell_of_a_plot_of_three_axes(client: Client, tmp_path: Path) -> None:
    axes = {"x_type": "Prompt S/R", "x_values": "ball,lake"}
    axes |= {"y_type": "CFG Scale", "y_values": "7,3"}
    axes |= {"z_type": "[LayerDiffuse] Stop at", "z_values": "1,0"}
    made = plot(client, FG, **axes)
    wanted = []
    for stop in (1, 0):
        for cfg in (7, 3):
            for word in ("ball", "lake"):
                options = {"prompt": f"a glass {word}", "cfg_scale": cfg, **SMALL}
                folder = tmp_path / f"{stop} {cfg} {word}"
                alone = generate(client, FG, folder, settings={"ending_step": stop}, **options)
                wanted += alone.images
    assert_pictures(made.images[-8:], wanted)


def test_a_plot_of_methods_and_sets(client: Client, tmp_path: Path) -> None:
    labels = [find_method(m).label for m in (JOINT, FG)]
    axis = {"x_type": "[LayerDiffuse] Method", "x_values": ",".join(f'"{x}"' for x in labels)}
    made = plot(client, FG, **axis)
    joint, fg = made.images[-2:]
    [alone] = generate(client, FG, tmp_path / "fg", **SMALL).images
    np.testing.assert_array_equal(fg, alone)
    layers = generate(client, JOINT, tmp_path / "joint", **SMALL).images
    tiles = [joint[y : y + SIDE, x : x + SIDE] for y in (0, SIDE) for x in (0, SIDE)]
    np.testing.assert_array_equal(tiles[0], layers[0])
    for tile, layer in zip(tiles[1:], layers[1:], strict=False):
        np.testing.assert_array_equal(tile[..., :3], layer)


@pytest.mark.parametrize("method_id", [FG, TO_FG])
def test_prompt_matrix(client: Client, tmp_path: Path, method_id: str) -> None:
    method = find_method(method_id)
    script = client.script_args("prompt matrix")
    made = client.txt2img(scripts=request(method_id), prompt="a glass ball|red", **script, **SMALL)
    wanted = []
    for i, prompt in enumerate(("a glass ball", "a glass ball, red")):
        wanted += generate(client, method_id, tmp_path / str(i), prompt=prompt, **SMALL).images
    assert_pictures(made.images[-2 * method.frames :], wanted)
    if method.frames > 1:
        for k, row in enumerate(made.images[1:3]):
            fg, blended = wanted[2 * k : 2 * k + 2]
            np.testing.assert_array_equal(row[:, :SIDE], fg)
            np.testing.assert_array_equal(row[:, SIDE:, :3], blended)


@pytest.mark.parametrize("method_id", [FG, TO_FG])
def test_loopback(client: Client, tmp_path: Path, method_id: str) -> None:
    script = client.script_args("loopback", img2img=True, loops=2, final_denoising_strength=0.6)
    job = {**SMALL, "denoising_strength": 0.6, "steps": 2}
    made = client.img2img([glass_ball(SIDE)], scripts=request(method_id), **script, **job)
    wanted, start = [], glass_ball(SIDE)
    for k in range(2):
        alone = client.img2img([start], scripts=request(method_id), seed=1234 + k, **job)
        start = alone.images[0]
        wanted.append(start)
    # The host draws a set's other init latents from the VAE's posterior before it seeds anything.
    assert_pictures(made.images[-2:], wanted, levels=0 if method_id == FG else 2)


def test_prompts_from_file(client: Client, tmp_path: Path) -> None:
    lines = 'a dog\n--prompt "a cat" --seed 5 --batch_size 2'
    script = client.script_args("prompts from file or textbox", list_of_prompt_inputs=lines)
    made = client.txt2img(scripts=request(TO_FG), prompt="", **script, **SMALL)
    wanted = generate(client, TO_FG, tmp_path / "dog", prompt="a dog", **SMALL).images
    wanted += generate(
        client, TO_FG, tmp_path / "cat", prompt="a cat", seed=5, batch_size=2, **SMALL
    ).images
    assert_pictures(made.images, wanted)


def test_sd_upscale_is_refused(client: Client) -> None:
    script = client.script_args("sd upscale", img2img=True, tile_overlap=16)
    with pytest.raises(ApiError) as caught:
        client.img2img([glass_ball(SIDE)], scripts=request(FG), **script, **SMALL)
    assert caught.value.status == 422, caught.value
    assert "SD upscale" in caught.value.body["detail"]["message"]


@pytest.mark.parametrize(
    ("stop", "batches"), [("skip", 2), ("interrupt", 1), ("stop_generating", 1)]
)
@pytest.mark.parametrize("method_id", [FG, JOINT])
def test_a_stop_in_the_first_of_two_batches(
    client: Client, tmp_path: Path, method_id: str, stop: str, batches: int
) -> None:
    method = find_method(method_id)
    options = {"n_iter": 2, "interrupt_at": 0, "stop": stop, **SMALL, "steps": 2}
    made = generate(client, method_id, tmp_path / "run", **options)
    assert len(made.images) == batches * method.frames
    for row in range(0, len(made.images), method.frames):
        assert_decoded(made.images[row], made, row, Arch.SD15)
    whole = generate(client, method_id, tmp_path / "whole", n_iter=2, **(SMALL | {"steps": 2}))
    first_is_whole = np.array_equal(made.latents[0], whole.latents[0])
    assert first_is_whole is (stop == "stop_generating")
    if batches == 2:
        assert_pictures(made.images[method.frames :], whole.images[method.frames :])
    assert not notes(made), "with one view nothing is cut short"


def test_an_interrupt_in_the_second_of_three_batches(client: Client, tmp_path: Path) -> None:
    options = {"n_iter": 3, **SMALL, "steps": 2}
    made = generate(client, JOINT, tmp_path / "run", interrupt_at=2, **options)
    whole = generate(client, JOINT, tmp_path / "whole", **options)
    assert len(made.images) == 6
    assert_pictures(made.images[:3], whole.images[:3])
    assert not np.array_equal(made.latents[3], whole.latents[3])
    assert_decoded(made.images[3], made, 3, Arch.SD15)


def test_pictures_that_another_extension_moves_keep_their_latents(
    client: Client, tmp_path: Path
) -> None:
    job = {"batch_size": 3, **SMALL}
    usual = generate(client, FG, tmp_path / "usual", **job)
    made = generate(client, FG, tmp_path / "made", scripts={"e2e edits": ["turn"]}, **job)
    assert_pictures(made.images, usual.images[::-1])


def test_a_picture_that_another_extension_puts_in_is_told_of(
    client: Client, tmp_path: Path
) -> None:
    usual = generate(client, JOINT, tmp_path / "usual", **SMALL)
    made = generate(client, JOINT, tmp_path / "made", scripts={"e2e edits": ["insert"]}, **SMALL)
    assert [image.shape[2] for image in made.images] == [3, 4, 3, 3]
    assert_pictures(made.images[1:], usual.images)
    assert any("has no latent" in text for text in notes(made))


def test_a_stop_while_transparency_is_decoded_is_told_of(client: Client, tmp_path: Path) -> None:
    """The stop comes in the last step, so that views of the decoder are left out."""
    client.set_options(layerdiffuse_decoder_views=8)
    made = generate(client, FG, tmp_path / "run", interrupt_at=0, **SMALL)
    assert any("stopped after 1 of 8 views" in text for text in notes(made))
    assert_decoded(made.images[0], made, 0, Arch.SD15)
