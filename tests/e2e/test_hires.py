"""Hires fix: both passes patched, and the decoder given the second pass's own latents."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import flow_jobs
import numpy as np
import pytest
from client import ApiError, Client, Result, encode_image
from flow_jobs import CHECKPOINTS, SMALL
from forge_server import ForgeServer
from layers import assert_decoded, assert_same, check_layers, difference, generate
from pictures import glass_ball
from random_weights import SD15, SDXL
from server_process import link

from lib_layerdiffuse.imaging.images import flatten, from_u8, to_u8
from lib_layerdiffuse.methods import Arch, find_method

Plain = Callable[..., Result]
HIRES = SMALL | flow_jobs.HIRES

pytestmark = pytest.mark.usefixtures("one_view")


def check(made: Result, method_id: str, width: int = 128, height: int = 128) -> None:
    """Checks a set of the second size whose foreground comes from its own latent."""
    method = find_method(method_id)
    check_layers(made, method, width=width, height=height)
    if method.fg_frame is not None:
        assert_decoded(made.images[method.fg_frame], made, method.fg_frame, method.arch)


def check_passes(made: Result, plain: Result, method_id: str) -> None:
    """Checks that the UNet ran patched in both passes, at each pass's size."""
    method = find_method(method_id)
    assert [p["size"] for p in made.run["passes"]] == [[64, 64], [128, 128]]
    for one, without in zip(made.run["passes"], plain.run["passes"], strict=True):
        if method.arch is Arch.SD15:
            assert one["overridden"] == 32
        else:
            assert one["weights"] != without["weights"]
        assert one["channels"] == 4 + method.concat_channels
        assert without["overridden"] == 0


@pytest.mark.parametrize(
    ("method_id", "upscaler"),
    [
        ("fg_attn_sd15", "Latent"),
        ("fg_attn_sd15", "Lanczos"),
        ("fg_to_bg_sd15", "Lanczos"),
        ("bg_to_fg_sd15", "Latent (nearest-exact)"),
        ("joint_sd15", "Lanczos"),
        ("fg_attn_sdxl", "Latent"),
        ("bg_blended_to_fg_sdxl", "Lanczos"),
        ("fg_to_blended_sdxl", "Latent"),
    ],
)
def test_both_passes_act_and_the_second_is_decoded(
    client: Client, plain: Plain, tmp_path: Path, method_id: str, upscaler: str
) -> None:
    method = find_method(method_id)
    client.use_checkpoint(CHECKPOINTS[method.arch])
    without = plain(CHECKPOINTS[method.arch], **HIRES)
    options = HIRES | {"hr_upscaler": upscaler}
    made = generate(client, method_id, tmp_path / "made", **options)
    check(made, method_id)
    check_passes(made, without, method_id)


@pytest.mark.parametrize("method_id", ["joint_sd15", "bg_blended_to_fg_sdxl"])
def test_between_two_plain_jobs(
    client: Client, plain: Plain, tmp_path: Path, method_id: str
) -> None:
    method = find_method(method_id)
    before = plain(CHECKPOINTS[method.arch], **HIRES)
    client.use_checkpoint(CHECKPOINTS[method.arch])
    made = generate(client, method_id, tmp_path / "made", **HIRES)
    low = generate(client, method_id, tmp_path / "low", **SMALL)
    np.testing.assert_array_equal(made.first_latents, low.latents)
    after = client.txt2img(record=tmp_path / "after", **HIRES)
    assert_same(before, after)
    assert after.run["checksum"] == before.run["checksum"]
    assert after.run["vae"] == before.run["vae"]
    assert after.run["overridden"] == []


def test_two_sets_and_two_batches(client: Client, tmp_path: Path) -> None:
    client.use_checkpoint(SD15)
    method = find_method("bg_to_fg_sd15")
    both = generate(client, method.id, tmp_path / "both", batch_size=2, n_iter=2, **HIRES)
    check_layers(both, method, sets=4, width=128, height=128)
    for row in range(0, 8, 2):
        assert_decoded(both.images[row], both, row, Arch.SD15)
    seed = both.info["all_seeds"][6]
    alone = generate(client, method.id, tmp_path / "alone", seed=seed, **HIRES)
    rows = both.latents[6:]
    assert np.abs(alone.latents - rows).max() < 1e-3 * np.abs(rows).max()


@pytest.mark.parametrize(
    ("size", "upscaler", "width", "height"),
    [
        ({"width": 128, "height": 64, "hr_scale": 1.5}, "Latent", 192, 96),
        ({"width": 72, "height": 104, "hr_scale": 1.3}, "Latent", 88, 128),
        ({"width": 72, "height": 104, "hr_scale": 1.3}, "Lanczos", 88, 128),
        ({"width": 64, "height": 96, "hr_resize_x": 128, "hr_resize_y": 128}, "Latent", 128, 128),
        ({"hr_scale": 4}, "Lanczos", 256, 256),
        ({"hr_scale": 1}, "Latent", 64, 64),
        ({"width": 96, "hr_resize_x": 136}, "Lanczos", 136, 88),
        ({"width": 192, "hr_resize_x": 64, "hr_resize_y": 160}, "Latent", 64, 160),
    ],
)
def test_sizes(
    client: Client, tmp_path: Path, size: dict[str, Any], upscaler: str, width: int, height: int
) -> None:
    client.use_checkpoint(SD15)
    options = HIRES | size | {"hr_upscaler": upscaler}
    made = generate(client, "bg_to_fg_sd15", tmp_path / "run", **options)
    check(made, "bg_to_fg_sd15", width, height)


def board(low: int, high: int) -> str:
    """Returns a board of single pixels at the second pass's size, encoded."""
    place = np.indices((128, 128)).sum(0) % 2
    return encode_image(np.repeat(np.where(place, high, low)[..., None], 3, 2).astype(np.uint8))


@pytest.mark.parametrize("method_id", ["bg_to_fg_sd15", "bg_to_blended_sdxl"])
def test_each_pass_sees_the_picture_at_its_own_size(
    client: Client, tmp_path: Path, method_id: str
) -> None:
    """Both boards are the same grey at the first pass's size, but not at the second's."""
    client.use_checkpoint(CHECKPOINTS[find_method(method_id).arch])
    grey, fine, other = (
        generate(client, method_id, tmp_path / name, settings={"bg_image": picture}, **HIRES)
        for name, picture in (
            ("grey", board(128, 128)),
            ("fine", board(28, 228)),
            ("other", board(60, 60)),
        )
    )
    first = [np.abs(one.first_latents - grey.first_latents).max() for one in (fine, other)]
    assert first[0] < 0.02 * first[1], first
    second = [np.abs(one.latents - grey.latents).max() for one in (fine, other)]
    assert second[0] > 0.1 * second[1], second


def test_prompts_of_the_second_pass(client: Client, tmp_path: Path) -> None:
    client.use_checkpoint(SD15)

    def run(name: str, own: str = "", **options: Any) -> Result:
        settings = {"fg_additional_prompt": own}
        return generate(
            client, "joint_sd15", tmp_path / name, settings=settings, **HIRES, **options
        )

    absent = run("absent")
    assert_same(absent, run("same", hr_prompt="a glass ball", hr_negative_prompt="blurry"))
    other = run("other", own="an old man", hr_prompt="a dog")
    assert difference(other, run("no own", hr_prompt="a dog")) > 0.001
    assert difference(other, run("no hires", own="an old man")) > 0.001
    assert "Hires prompt: a dog," in other.infotexts[0]
    assert "Hires prompt" not in absent.infotexts[0]


def refused(client: Client, method_id: str, **options: Any) -> dict[str, Any]:
    with pytest.raises(ApiError) as caught:
        client.txt2img(scripts={"layerdiffuse": [{"method": method_id}]}, **options)
    assert caught.value.status == 422, caught.value
    return caught.value.body["detail"]


def test_a_checkpoint_of_another_family_is_refused(
    client: Client, plain: Plain, tmp_path: Path
) -> None:
    before = plain(SD15, **SMALL)
    client.use_checkpoint(SD15)
    detail = refused(client, "joint_sd15", **HIRES, hr_checkpoint_name=SDXL)
    assert detail["error"] == "ArchMismatchError"
    assert "sdxl_random" in detail["message"]
    assert client.model()["checkpoint"] == SD15, "it was loaded all the same"
    assert_same(before, client.txt2img(record=tmp_path / "after", **SMALL))


def test_another_checkpoint_of_the_family(
    forge: ForgeServer, client: Client, tmp_path: Path
) -> None:
    folder = forge.data_dir / "models" / "Stable-diffusion"
    link(folder / SD15, folder / "twin.safetensors")
    client.call("POST", "/sdapi/v1/refresh-checkpoints")
    client.use_checkpoint(SD15)
    wanted = generate(client, "bg_to_fg_sd15", tmp_path / "one", n_iter=2, **HIRES)
    options = HIRES | {"hr_checkpoint_name": "twin.safetensors", "n_iter": 2}
    made = generate(client, "bg_to_fg_sd15", tmp_path / "two", **options)
    assert "Hires checkpoint: twin" in made.infotexts[0]
    np.testing.assert_array_equal(made.latents, wanted.latents)
    for one, other in zip(made.images, wanted.images, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(("step", "size"), [(0, 64), (1, 128)])
def test_an_interrupt_in_either_pass_gives_what_there_is(
    client: Client, plain: Plain, tmp_path: Path, step: int, size: int
) -> None:
    before = plain(SD15, **SMALL)
    client.use_checkpoint(SD15)
    made = generate(client, "joint_sd15", tmp_path / "run", interrupt_at=step, **HIRES)
    assert [image.shape for image in made.images] == [(size, size, c) for c in (4, 3, 3)]
    assert_decoded(made.images[0], made, 0, Arch.SD15)
    assert_same(before, client.txt2img(record=tmp_path / "after", **SMALL))


@pytest.mark.parametrize("step", [0, 1])
def test_an_exception_in_either_pass_leaves_nothing(
    client: Client, plain: Plain, tmp_path: Path, step: int
) -> None:
    before = plain(SD15, **SMALL)
    client.use_checkpoint(SD15)
    with pytest.raises(ApiError) as caught:
        generate(client, "joint_sd15", tmp_path / "run", fail_at=step, **HIRES)
    assert "E2E probe" in str(caught.value.body)
    after = client.txt2img(record=tmp_path / "after", **SMALL)
    assert_same(before, after)
    assert after.run["checksum"] == before.run["checksum"]


class TestUpscaleButton:
    @pytest.mark.parametrize("upscaler", ["Latent", "Lanczos"])
    def test_a_transparent_picture(self, client: Client, tmp_path: Path, upscaler: str) -> None:
        client.use_checkpoint(SD15)
        ball = glass_ball(64)
        options = HIRES | {"hr_upscaler": upscaler}
        made = generate(client, "fg_attn_sd15", tmp_path / "rgba", upscale=ball, **options)
        check(made, "fg_attn_sd15")
        assert len(made.run["passes"]) == 1

    def test_a_method_without_transparency(self, client: Client, tmp_path: Path) -> None:
        client.use_checkpoint(SDXL)
        grey = to_u8(flatten(from_u8(glass_ball(64))))
        made = generate(client, "fg_to_blended_sdxl", tmp_path / "run", upscale=grey, **HIRES)
        check(made, "fg_to_blended_sdxl")

    def test_one_layer_of_a_set_is_refused(self, client: Client) -> None:
        client.use_checkpoint(SD15)
        ball = glass_ball(64)
        detail = refused(client, "joint_sd15", upscale=ball, **HIRES)
        assert detail["error"] == "MissingCapabilityError"
        assert "sets of 3" in detail["message"]
