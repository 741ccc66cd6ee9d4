"""Differential Diffusion: each call of the network holds what the map says, with any sampler."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from client import ApiError, Client, Result, encode_image
from flow_jobs import SOFT_INPAINTING
from forge_server import ForgeServer
from init_latents import EXACT, apart
from layers import request
from pictures import glass_ball
from PIL import Image
from random_weights import SD15
from webuis import Webui

SMALL = {"width": 64, "height": 64, "denoising_strength": 0.6, "steps": 4, "resize_mode": 0}
SMALL |= {"inpaint_full_res": False, "inpainting_fill": 1}
STEPS = {"UniPC": 10}  # Its order is 3.
STOPS = {"DPM adaptive": 12}  # Else it takes a hundred calls, since random weights are not smooth.
BETAS = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
ALPHAS = np.cumprod(1 - BETAS)
LOG_SIGMAS = np.log(np.sqrt((1 - ALPHAS) / ALPHAS))
SAMPLERS = (
    "DPM++ 2M",
    "DPM++ SDE",
    "DPM++ 2M SDE",
    "DPM++ 2M SDE Heun",
    "DPM++ 2S a",
    "DPM++ 3M SDE",
    "Euler a",
    "Euler",
    "LMS",
    "Heun",
    "DPM2",
    "DPM2 a",
    "DPM fast",
    "DPM adaptive",
    "Restart",
    "HeunPP2",
    "IPNDM",
    "IPNDM_V",
    "DEIS",
    "DDIM",
    "DDIM CFG++",
    "PLMS",
    "UniPC",
    "LCM",
    "DDPM",
    "ER SDE",
    "DPM++ 2M CFG++",
    "Euler CFG++",
    "Euler a CFG++",
    "Res Multistep",
    "Kohaku LoNyu Yog",
)
BY_THEMSELVES = ("DDIM", "DDIM CFG++", "PLMS", "UniPC")
"""Samplers that AUTOMATIC1111's WebUI runs in a way of their own."""
FOR_FLOW = "DPM++ 2s a RF"
"""A sampler of Neo's for models of rectified flow: of others it makes no numbers."""


@pytest.fixture(autouse=True)
def _checkpoint(client: Client) -> None:
    client.use_checkpoint(SD15)


def ramp(size: int = 64) -> np.ndarray:
    """Returns a map: black in the left quarter, white in the right, steps between."""
    levels = np.repeat(np.linspace(-0.5, 1.5, size // 8).clip(0, 1), 8)
    row = np.round(levels * 255).astype(np.uint8)
    return np.repeat(np.repeat(row[None, :, None], size, 0), 3, 2)


def run(client: Client, record: Path | None, choices: Any, **options: Any) -> Result:
    """Runs a plain job, or with `layers` one of a method, under a change map."""
    layers = options.pop("layers", None)
    scripts = {"differential diffusion": [choices]} | (request(layers) if layers else {})
    pictures = options.pop("pictures", [glass_ball(64)])
    return client.img2img(pictures, scripts=scripts, record=record, **{**SMALL, **options})


def by_picture(**more: Any) -> dict[str, Any]:
    """Returns the choices for the ramp."""
    return {"source": "Picture", "picture": encode_image(ramp()), **more}


def check_steps(made: Result) -> np.ndarray:
    """Checks every call of the network against the rule; returns where it was ever free."""
    steps = made.steps
    init = made.init_latents[: len(steps["x"][0])]
    init = np.resize(init, steps["denoised"][0].shape)  # Some hosts have rows of both prompts.
    change = steps["map"][0]
    sigmas = steps["sigma"].reshape(len(steps["sigma"]), -1)[:, 0]
    now = np.interp(np.log(sigmas), LOG_SIGMAS, np.arange(1000))
    thresholds = np.minimum(now / now[0], 1)
    assert thresholds[0] == 1
    freed = np.zeros_like(change, bool)
    for i, threshold in enumerate(thresholds):
        # A value of the map within float rounding of the threshold may be on either side.
        clear = np.abs(change - threshold) > 1e-4
        clear |= threshold == 1
        free = (change > 0) & (change >= threshold)
        freed |= free
        wanted = np.where(free, steps["denoised"][i], init)
        np.testing.assert_array_equal(steps["blended"][i][:, clear], wanted[:, clear])
    return freed


@pytest.fixture(scope="module")
def offered(forge: ForgeServer) -> set[str]:
    """The samplers that the WebUI has."""
    return {one["name"] for one in Client(forge.url).call("GET", "/sdapi/v1/samplers")}


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler(
    client: Client, webui: Webui, offered: set[str], tmp_path: Path, sampler: str
) -> None:
    if sampler not in offered:
        pytest.skip(f"{webui.name} has no {sampler}")
    if not webui.has_patcher and sampler in BY_THEMSELVES:
        with pytest.raises(ApiError, match=f"does not work with the sampler {re.escape(sampler)}"):
            run(client, None, by_picture(), sampler_name=sampler)
        return
    options = {"steps": STEPS.get(sampler, 4), "interrupt_at": STOPS.get(sampler, -1)}
    made = run(client, tmp_path / "run", by_picture(), sampler_name=sampler, **options)
    freed = check_steps(made)
    assert 0.25 <= freed.mean() < 0.9
    np.testing.assert_array_equal(made.latents[:, ~freed], made.init_latents[:, ~freed])
    assert np.abs(made.latents - made.init_latents)[:, freed].max() > 0.01


def test_no_sampler_that_is_offered_is_left_out(offered: set[str]) -> None:
    assert offered <= {*SAMPLERS, FOR_FLOW}


def test_held_latents_are_the_noised_original(client: Client, tmp_path: Path) -> None:
    made = run(client, tmp_path / "run", by_picture(), layers="fg_attn_sd15", steps=6)
    freed = check_steps(made)
    steps, init = made.steps, made.init_latents
    sigmas = steps["sigma"].reshape(len(steps["sigma"]), -1)[:, 0]
    noise = (steps["x"][0] - init) / sigmas[0]
    for sigma, x in zip(sigmas, steps["x"], strict=True):
        held = (init + sigma * noise)[:, ~freed]
        np.testing.assert_allclose(x[:, ~freed], held, atol=1e-3 * sigmas[0])


@pytest.mark.parametrize("layers", [None, "fg_attn_sd15", "bg_to_fg_sd15"])
def test_what_may_not_change_comes_back(client: Client, tmp_path: Path, layers: str | None) -> None:
    picture = glass_ball(64)
    made = run(client, tmp_path / "run", by_picture(), layers=layers)
    check_steps(made)
    image = made.images[0]
    if layers:
        np.testing.assert_array_equal(image[:, :8], picture[:, :8])
        assert image.shape == (64, 64, 4)
    else:
        below = client.call("GET", "/sdapi/v1/options")["img2img_background_color"]
        flat = Image.new("RGBA", (64, 64), below)
        flat.alpha_composite(Image.fromarray(picture))
        apart_u8 = image[:, :8].astype(int) - np.asarray(flat)[:, :8, :3]
        assert np.abs(apart_u8).max() <= 1
    assert "Differential Diffusion: True, Change map: Picture" in made.infotexts[0]


@pytest.mark.parametrize("source", ["Visible part", "Transparent part"])
@pytest.mark.parametrize("layers", [None, "fg_attn_sd15"])
@pytest.mark.parametrize("feather", [0, 4])
def test_the_pictures_own_alpha(
    client: Client, tmp_path: Path, source: str, layers: str | None, feather: int
) -> None:
    choices = {"source": source, "feather": feather}
    made = run(client, tmp_path / "run", choices, layers=layers)
    check_steps(made)
    alpha = glass_ball(64)[..., 3] / 255
    change = alpha if source == "Visible part" else 1 - alpha
    if feather:
        change = cv2.GaussianBlur(change, (0, 0), feather, borderType=cv2.BORDER_REPLICATE)
    levels = Image.fromarray(np.round(change * 255).astype(np.uint8)).resize((8, 8))
    np.testing.assert_allclose(made.steps["map"][0][0] * 255, np.asarray(levels), atol=1.01)


def test_loopback_and_a_folder(client: Client, tmp_path: Path) -> None:
    picture, source, target = glass_ball(64), tmp_path / "source", tmp_path / "target"
    for folder in (source, target):
        folder.mkdir()
    turned = np.ascontiguousarray(picture[::-1])
    for name, one in (("a", picture), ("b", turned)):
        Image.fromarray(one).save(source / f"{name}.png")
    scripts = {
        "loopback": [2, 0.6, "Linear", "None"],
        "e2e folder": [str(source), str(target)],
    }
    for script, args in scripts.items():
        made = run(
            client,
            tmp_path / script,
            by_picture(),
            layers="fg_attn_sd15",
            script_name=script,
            script_args=args,
        )
        check_steps(made)
        first, second = (image for image in made.images if image.shape == (64, 64, 4))
        last = picture if script == "loopback" else turned
        np.testing.assert_array_equal(first[:, :8], picture[:, :8])
        np.testing.assert_array_equal(second[:, :8], last[:, :8])
        assert not np.array_equal(first[:, 32:], second[:, 32:])


def test_a_soft_mask_and_only_masked(client: Client, tmp_path: Path) -> None:
    mask = encode_image(ramp())
    made = run(client, tmp_path / "run", {"source": "Inpaint mask"}, mask=mask, mask_blur=0)
    check_steps(made)
    by_map = run(client, tmp_path / "map", by_picture())
    np.testing.assert_array_equal(made.steps["map"], by_map.steps["map"])
    cut = run(
        client,
        tmp_path / "cut",
        {"source": "Picture", "picture": encode_image(ramp(160))},
        layers="fg_attn_sd15",
        pictures=[glass_ball(160)],
        inpaint_full_res=True,
    )
    check_steps(cut)
    np.testing.assert_array_equal(cut.images[0][:, :36], glass_ball(160)[:, :36])


def test_every_batch_and_nothing_left(client: Client, tmp_path: Path) -> None:
    before = client.img2img([glass_ball(64)], record=tmp_path / "before", **SMALL)
    both = run(client, tmp_path / "both", by_picture(), n_iter=2, batch_size=2)
    freed = check_steps(both)
    for row, begun in zip(both.latents, both.init_latents, strict=True):
        np.testing.assert_array_equal(row[~freed], begun[~freed])
    after = client.img2img([glass_ball(64)], record=tmp_path / "after", **SMALL)
    # The host's own init latent is drawn from the VAE's posterior before anything is seeded.
    assert apart(after.latents, before.latents) < EXACT
    assert after.run["checksum"] == before.run["checksum"]


def test_what_cannot_work_is_told(client: Client) -> None:
    for choices, options, text in (
        ({"source": "Inpaint mask"}, {}, "inpaint mask"),
        (by_picture(), {"soft": True}, "soft inpainting"),
        ({"source": "?"}, {}, "no change map called"),
    ):
        others = SOFT_INPAINTING if options else {}
        with pytest.raises(ApiError) as caught:
            client.img2img(
                [glass_ball(64)],
                scripts={"differential diffusion": [choices]} | others,
                **SMALL,
            )
        assert caught.value.status == 422
        assert text in caught.value.body["detail"]["message"]
