"""Inpainting a transparent image: around the mask it comes back bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from client import ApiError, Client, Result, encode_image
from flow_jobs import SOFT_INPAINTING
from layers import request
from pictures import glass_ball, lake_scene
from PIL import Image
from random_weights import SD15

from lib_layerdiffuse.imaging.images import ResizeMode, fit, from_u8, premultiply, to_u8

SMALL = {"width": 64, "height": 64, "denoising_strength": 0.4}
WHOLE, ONLY_MASKED = False, True


@pytest.fixture(autouse=True)
def _checkpoint(client: Client) -> None:
    client.use_checkpoint(SD15)


def box(size: int, left: int, top: int, right: int, bottom: int) -> np.ndarray:
    """Returns a mask that is white in a box, `size size 3`."""
    mask = np.zeros((size, size, 3), np.uint8)
    mask[top:bottom, left:right] = 255
    return mask


def run(
    client: Client,
    record: Path | None,
    picture: np.ndarray,
    mask: np.ndarray | None,
    method_id: str = "fg_attn_sd15",
    **options: Any,
) -> Result:
    """Runs one method; the mask is blurred by nothing unless said."""
    scripts = request(method_id, **options.pop("settings", {})) | options.pop("others", {})
    more = {"mask": encode_image(mask)} if mask is not None else {}
    more |= {"mask_blur": 0, "inpainting_fill": 1, "inpaint_full_res": WHOLE, "resize_mode": 0}
    return client.img2img([picture], scripts=scripts, record=record, **{**SMALL, **more, **options})


def reach(mask: np.ndarray, blur: int) -> np.ndarray:
    """Returns how far a blurred mask reaches, `h w` boolean, by the host's own kernel."""
    if not blur:
        return mask[..., 0] > 0
    width = 2 * int(2.5 * blur + 0.5) + 1
    across = cv2.GaussianBlur(mask[..., 0], (width, 1), blur)
    return cv2.GaussianBlur(across, (1, width), blur) > 0


@pytest.mark.parametrize("blur", [0, 2])
def test_whole_picture(client: Client, tmp_path: Path, blur: int) -> None:
    picture, mask = glass_ball(64), box(64, 24, 24, 48, 48)
    made = run(client, tmp_path / "run", picture, mask, mask_blur=blur)
    (image,), changed = made.images, reach(mask, blur)
    assert image.shape == (64, 64, 4)
    np.testing.assert_array_equal(image[~changed], picture[~changed])
    assert (picture[~changed][:, 3] < 255).any()
    assert (image[30:42, 30:42] != picture[30:42, 30:42]).any(axis=2).mean() > 0.9


def kept_share(mask: np.ndarray, blur: int) -> np.ndarray:
    """Returns how much the host keeps of the image, `h w 1`: it doubles the blurred mask."""
    width = 2 * int(2.5 * blur + 0.5) + 1
    across = cv2.GaussianBlur(mask[..., 0], (width, 1), blur)
    blurred = cv2.GaussianBlur(across, (1, width), blur).astype(float)
    return 1 - np.minimum(2 * blurred, 255)[..., None] / 255


def test_the_seam_is_mixed_premultiplied(client: Client, tmp_path: Path) -> None:
    picture, mask = glass_ball(64), box(64, 24, 24, 48, 48)
    mixed = run(client, tmp_path / "run", picture, mask, mask_blur=3)
    alone = run(
        client,
        tmp_path / "alone",
        picture,
        mask,
        mask_blur=3,
        override_settings={"overlay_inpaint": False},
    )
    np.testing.assert_array_equal(mixed.latents, alone.latents)
    kept = kept_share(mask, 3)
    assert ((kept > 0) & (kept < 1)).sum() > 100
    made, original, got = (
        premultiply(from_u8(image)) for image in (alone.images[0], picture, mixed.images[0])
    )
    wanted = made * (1 - kept) + original * kept
    assert np.abs(got - wanted).max() < 2.5 / 255


def test_an_opaque_picture(client: Client, tmp_path: Path) -> None:
    picture, mask = lake_scene(64), box(64, 24, 24, 48, 48)
    (image,) = run(client, tmp_path / "run", picture, mask).images
    outside = mask[..., 0] == 0
    np.testing.assert_array_equal(image[outside][:, :3], picture[outside])
    assert (image[outside][:, 3] == 255).all()


def test_only_masked_with_a_given_layer(client: Client, tmp_path: Path) -> None:
    """The part stands before its own part of the background."""
    picture, mask, scene = glass_ball(160), box(160, 60, 50, 100, 90), lake_scene(160)
    options = {"inpaint_full_res": ONLY_MASKED, "inpaint_full_res_padding": 8}
    settings = {"bg_image": encode_image(scene)}
    made = run(
        client, tmp_path / "run", picture, mask, "bg_to_fg_sd15", settings=settings, **options
    )
    outside, alpha = mask[..., 0] == 0, picture[..., 3:] / 255
    fg, blended = made.images
    np.testing.assert_array_equal(fg[outside], picture[outside])
    over = picture[..., :3] * alpha + scene * (1 - alpha)
    assert np.abs(blended[outside] - over[outside]).max() <= 2
    # Another background far from the part changes nothing of it.
    elsewhere = scene.copy()
    elsewhere[:, 130:] = 255 - elsewhere[:, 130:]
    settings = {"bg_image": encode_image(elsewhere)}
    other = run(
        client, tmp_path / "other", picture, mask, "bg_to_fg_sd15", settings=settings, **options
    )
    # But for the blended layer's own init latent, which the host draws from the VAE's posterior.
    assert np.abs(made.images[0].astype(int) - other.images[0]).max() <= 3


@pytest.mark.parametrize(
    "tab", ["img2img", "sketch", "inpaint", "inpaint sketch", "inpaint upload"]
)
def test_tabs_of_the_page(client: Client, tmp_path: Path, tab: str) -> None:
    picture, mask = glass_ball(64), box(64, 24, 24, 48, 48)
    drawn = np.dstack([np.full_like(mask, 200), mask[..., 0]])
    drawing = mask if tab == "inpaint upload" else drawn
    sampling = {"sampler": [2, "Euler", "Automatic"]}
    made = run(
        client,
        tmp_path / "run",
        picture,
        None,
        others=sampling,
        script_name="e2e tab",
        script_args=[tab, encode_image(drawing)],
    )
    (image,) = made.images
    assert image.shape == (64, 64, 4)
    both = Image.alpha_composite(Image.fromarray(picture), Image.fromarray(drawn))
    begun = np.asarray(both) if "sketch" in tab else picture
    reached = (mask[..., 0] > 0) | (tab in ("img2img", "sketch"))
    np.testing.assert_array_equal(image[~reached], begun[~reached])
    assert (image[32:40, 32:40] != begun[32:40, 32:40]).any()


def test_latents_around_the_mask_are_the_original(client: Client, tmp_path: Path) -> None:
    made = run(client, tmp_path / "run", glass_ball(64), box(64, 24, 24, 48, 48))
    around = np.ones((8, 8), bool)
    around[3:6, 3:6] = False
    np.testing.assert_allclose(
        made.latents[0][:, around], made.init_latents[0][:, around], atol=1e-5
    )


@pytest.mark.parametrize("padding", [0, 8])
def test_only_masked(client: Client, tmp_path: Path, padding: int) -> None:
    picture, mask = glass_ball(160), box(160, 60, 50, 100, 90)
    made = run(
        client,
        tmp_path / "run",
        picture,
        mask,
        inpaint_full_res=ONLY_MASKED,
        inpaint_full_res_padding=padding,
    )
    (image,), inside = made.images, mask[..., 0] > 0
    assert image.shape == (160, 160, 4)
    np.testing.assert_array_equal(image[~inside], picture[~inside])
    assert (image[inside] != picture[inside]).any(axis=1).mean() > 0.9


def test_the_picture_is_resized_once(client: Client, tmp_path: Path) -> None:
    picture, mask = glass_ball(96), box(96, 48, 48, 64, 64)
    made = run(client, tmp_path / "run", picture, mask)
    wanted = to_u8(fit(from_u8(picture), 64, 64, ResizeMode.STRETCH))
    np.testing.assert_array_equal(made.images[0][:24, :24], wanted[:24, :24])


@pytest.mark.parametrize("source", ["Visible part", "Transparent part"])
@pytest.mark.parametrize("area", [WHOLE, ONLY_MASKED])
def test_the_pictures_own_alpha(client: Client, tmp_path: Path, source: str, area: bool) -> None:
    picture = glass_ball(64)
    alpha = picture[..., 3]
    held = alpha == (0 if source == "Visible part" else 255)
    made = run(
        client,
        tmp_path / "run",
        picture,
        None,
        settings={"mask_source": source},
        inpaint_full_res=area,
    )
    (image,) = made.images
    np.testing.assert_array_equal(image[held], picture[held])
    assert f"layerdiffusion_mask_source: {source}" in made.infotexts[0]
    assert (image != picture).any()


@pytest.mark.parametrize("fill", [0, 2, 3])
def test_masked_content(client: Client, tmp_path: Path, fill: int) -> None:
    picture, mask = glass_ball(64), box(64, 24, 24, 48, 48)
    made = run(client, tmp_path / "run", picture, mask, inpainting_fill=fill)
    kept = run(client, tmp_path / "kept", picture, mask)
    around = np.ones((8, 8), bool)
    around[3:6, 3:6] = False
    if fill:
        np.testing.assert_array_equal(
            made.init_latents[0][:, around], kept.init_latents[0][:, around]
        )
    painted = picture.copy()
    painted[24:48, 24:48] = (250, 10, 90, 255)
    other = run(client, tmp_path / "other", painted, mask, inpainting_fill=fill)
    # What is under the mask has no say in what stands there instead.
    np.testing.assert_allclose(
        made.init_latents[0][:, ~around],
        other.init_latents[0][:, ~around],
        atol=0.02 if fill == 0 else 0,
    )
    inside = made.init_latents[0][:, ~around]
    assert not np.allclose(inside, kept.init_latents[0][:, ~around], atol=0.01)
    assert (inside == 0).all() == (fill == 3)
    outside = mask[..., 0] == 0
    np.testing.assert_array_equal(made.images[0][outside], picture[outside])


def test_soft_inpainting(client: Client, tmp_path: Path) -> None:
    picture, mask = glass_ball(64), box(64, 40, 40, 64, 64)
    made = run(
        client,
        tmp_path / "run",
        picture,
        mask,
        mask_blur=4,
        denoising_strength=0.6,  # Where little changes, soft inpainting keeps what there was.
        others=SOFT_INPAINTING,
    )
    (image,) = made.images
    assert image.shape == (64, 64, 4)
    corner = np.s_[:8, :8]
    np.testing.assert_array_equal(image[corner], picture[corner])
    assert (image[40:, 40:] != picture[40:, 40:]).any()


def test_colour_correction_and_mask_pictures(client: Client, tmp_path: Path) -> None:
    options = {"img2img_color_correction": True, "return_mask": True, "return_mask_composite": True}
    picture, mask = glass_ball(160), box(160, 60, 50, 100, 90)
    made = run(
        client,
        tmp_path / "run",
        picture,
        mask,
        inpaint_full_res=ONLY_MASKED,
        override_settings=options,
    )
    image, shown_mask, composite = made.images
    np.testing.assert_array_equal(image[mask[..., 0] == 0], picture[mask[..., 0] == 0])
    np.testing.assert_array_equal(shown_mask, mask)
    assert composite.shape == (160, 160, 4)


def test_sets_and_other_layers(client: Client, tmp_path: Path) -> None:
    picture, mask = glass_ball(64), box(64, 24, 24, 48, 48)
    made = run(client, tmp_path / "run", picture, mask, "bg_to_fg_sd15", batch_size=2)
    outside = mask[..., 0] == 0
    for fg, blended in (made.images[:2], made.images[2:]):
        np.testing.assert_array_equal(fg[outside], picture[outside])
        over = picture[..., :3] * (picture[..., 3:] / 255) + fit(
            from_u8(lake_scene(256)), 64, 64, ResizeMode.CROP
        ) * (255 - picture[..., 3:].astype(float))
        assert np.abs(blended[outside] - over[outside]).max() <= 2


def test_without_the_overlay(client: Client, tmp_path: Path) -> None:
    picture, mask = glass_ball(64), box(64, 24, 24, 48, 48)
    options = {"overlay_inpaint": False}
    made = run(client, tmp_path / "run", picture, mask, override_settings=options)
    assert made.images[0].shape == (64, 64, 4)
    assert (made.images[0][:16, :16] != picture[:16, :16]).any()


def test_what_cannot_work_is_told(client: Client) -> None:
    with pytest.raises(ApiError) as caught:
        run(client, None, lake_scene(64), None, settings={"mask_source": "Transparent part"})
    assert caught.value.status == 422
    assert "transparent part" in caught.value.body["detail"]["message"]
