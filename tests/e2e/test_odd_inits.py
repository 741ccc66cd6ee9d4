"""img2img and inpainting with what people really put in: every outcome is right, or is told."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from client import ApiError, Client, encode_image
from init_latents import Reference, check, run
from pictures import glass_ball, lake_scene
from PIL import Image
from random_weights import SD15
from real_forge import Models

from lib_layerdiffuse.imaging.images import ResizeMode, as_rgba, fit, from_u8
from lib_layerdiffuse.methods import Arch

FG = "fg_attn_sd15"
MODES = [ResizeMode.STRETCH, ResizeMode.CROP, ResizeMode.FILL]
LATENT_UPSCALE = 3


@pytest.fixture
def sd15(client: Client, models: Models) -> Reference:
    client.use_checkpoint(SD15)
    return Reference(client, models, Arch.SD15)


def file(image: Image.Image, form: str = "PNG", **options: Any) -> str:
    """Returns an image's file as base64."""
    with io.BytesIO() as stream:
        image.save(stream, form, **options)
        return base64.b64encode(stream.getvalue()).decode()


def palette() -> tuple[str, np.ndarray]:
    """Returns an image of 64 colours, each with its alpha, and what it shows."""
    image = Image.fromarray(glass_ball(64)).quantize(64)
    return file(image), np.asarray(image.convert("RGBA"))


def grey_with_alpha() -> tuple[str, np.ndarray]:
    image = Image.fromarray(glass_ball(64)).convert("LA")
    return file(image), np.asarray(image.convert("RGBA"))


def bits_16(channels: int) -> tuple[str, np.ndarray]:
    """Returns an image with 16 bits a channel, grey or with alpha, and what it shows."""
    picture = glass_ball(64)[..., 1] if channels == 1 else glass_ball(64)
    wide = picture.astype(np.uint16) * 257
    bgra = wide if channels == 1 else wide[..., [2, 1, 0, 3]]
    _, data = cv2.imencode(".png", bgra)
    return base64.b64encode(data.tobytes()).decode(), picture


def photograph() -> tuple[str, np.ndarray]:
    """Returns a JPEG that says that it lies on its side, and what it shows."""
    image, exif = Image.fromarray(lake_scene(64)[:48]), Image.Exif()
    exif[0x0112] = 6
    text = file(image, "JPEG", exif=exif, quality=95)
    lying = Image.open(io.BytesIO(base64.b64decode(text)))
    return text, np.asarray(lying.transpose(Image.Transpose.ROTATE_270))


def told(caught: Any) -> dict[str, str]:
    """Returns the error that a request ended with, which was raised on purpose."""
    assert caught.value.status == 422, caught.value
    return caught.value.body["detail"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [palette(), grey_with_alpha(), bits_16(1), bits_16(4), photograph()],
    ids=["palette", "grey and alpha", "16 bits of grey", "16 bits", "photograph"],
)
def test_files_of_any_kind(
    client: Client, sd15: Reference, tmp_path: Path, text: str, shown: np.ndarray
) -> None:
    made = run(client, "joint_sd15", tmp_path / "run", [text])
    rgba = fit(as_rgba(shown if shown.ndim == 3 else shown[..., None]), 64, 64, MODES[0])
    check(made.init_latents[:1], sd15.latent(rgba))
    assert [image.shape[2] for image in made.images] == [4, 3, 3]
    alpha = rgba[..., 3:]
    flat = sd15.flat(rgba[..., :3] * alpha + 0.5 * (1 - alpha))
    spread = client.moments(rgba[..., :3])
    limit = 6 * (spread["factor"] * spread["std"]).max() + 0.05
    assert np.abs(made.init_latents[1:] - flat).max() < limit


@pytest.mark.parametrize("size", [(6, 5), (4000, 8), (8, 4000), (1, 1)])
@pytest.mark.parametrize("mode", [0, 1, 2])
def test_sizes(
    client: Client, sd15: Reference, tmp_path: Path, size: tuple[int, int], mode: int
) -> None:
    picture = cv2.resize(glass_ball(64), size, interpolation=cv2.INTER_AREA)
    if mode == 2 and 4000 in size:  # The host would fit it in with no pixels across.
        with pytest.raises(ApiError) as caught:
            run(client, FG, tmp_path / "run", [picture], resize_mode=mode)
        assert told(caught)["error"] == "ImageSizeError"
        return
    made = run(client, FG, tmp_path / "run", [picture], resize_mode=mode)
    check(made.init_latents, sd15.latent(fit(from_u8(picture), 64, 64, MODES[mode])))
    assert made.images[0].shape == (64, 64, 4)


def test_sizes_for_latent_upscale(client: Client, sd15: Reference, tmp_path: Path) -> None:
    picture = cv2.resize(glass_ball(64), (400, 8), interpolation=cv2.INTER_AREA)
    made = run(client, FG, tmp_path / "run", [picture], resize_mode=LATENT_UPSCALE)
    assert made.images[0].shape == (64, 64, 4)
    with pytest.raises(ApiError) as caught:
        run(client, FG, tmp_path / "small", [picture[:7]], resize_mode=LATENT_UPSCALE)
    assert told(caught)["error"] == "ImageSizeError"
    assert not (tmp_path / "small").exists()


@pytest.mark.parametrize("area", [None, False, True], ids=["img2img", "whole", "only masked"])
def test_a_size_that_is_no_multiple_of_8(
    client: Client, sd15: Reference, tmp_path: Path, area: bool | None
) -> None:
    """Folders that are resized by a factor ask for such."""
    picture, mask = glass_ball(110)[:77], box(110, 40, 30, 60, 50)[:77]
    size = {"width": 110, "height": 77}
    if area is None:
        made = run(client, FG, tmp_path / "run", [picture], **size)
        check(made.init_latents, sd15.latent(picture[:72, :104]))
    else:
        made = inpaint(client, tmp_path / "run", picture, mask, inpaint_full_res=area, **size)
        wanted = picture if area else picture[:72, :104]
        outside = mask[: len(wanted), : wanted.shape[1], 0] == 0
        np.testing.assert_array_equal(made.images[0][outside], wanted[outside])
    assert made.images[0].shape[:2] == ((77, 110) if area else (72, 104))


def test_pictures_of_several_sizes(client: Client, sd15: Reference, tmp_path: Path) -> None:
    pictures = [glass_ball(96)[:, :70], glass_ball(40), lake_scene(64)]
    made = run(client, FG, tmp_path / "run", pictures, batch_size=3, resize_mode=1)
    for row, picture in enumerate(pictures):
        fitted = fit(as_rgba(picture), 64, 64, ResizeMode.CROP)
        check(made.init_latents[row : row + 1], sd15.latent(fitted))


@pytest.mark.parametrize("alpha", [0, 255])
def test_one_alpha_everywhere(client: Client, sd15: Reference, tmp_path: Path, alpha: int) -> None:
    picture = glass_ball(64)
    picture[..., 3] = alpha
    made = run(client, FG, tmp_path / "run", [picture])
    check(made.init_latents, sd15.latent(picture))
    missing = "Visible part" if alpha == 0 else "Transparent part"
    there = "Transparent part" if alpha == 0 else "Visible part"
    for source in ("layerdiffuse", "differential diffusion"):
        choices = (
            {"method": FG, "mask_source": missing}
            if source == "layerdiffuse"
            else {"source": missing}
        )
        with pytest.raises(ApiError) as caught:
            run(client, FG, tmp_path / "none", [picture], others={source: [choices]})
        assert missing.lower() in told(caught)["message"]
    whole = run(client, FG, tmp_path / "all", [picture], settings={"mask_source": there})
    assert whole.images[0].shape == (64, 64, 4)


def box(size: int, left: int, top: int, right: int, bottom: int) -> np.ndarray:
    """Returns a mask that is white in a box, `size size 3`."""
    mask = np.zeros((size, size, 3), np.uint8)
    mask[top:bottom, left:right] = 255
    return mask


def inpaint(client: Client, record: Path, picture: Any, mask: np.ndarray, **options: Any) -> Any:
    """Inpaints one image, whole and without blur unless said."""
    more = {"mask_blur": 0, "inpainting_fill": 1, "inpaint_full_res": False, **options}
    return run(client, FG, record, [picture], mask=encode_image(mask), **more)


def test_a_mask_of_another_size(client: Client, sd15: Reference, tmp_path: Path) -> None:
    picture, mask = glass_ball(64), box(128, 48, 48, 96, 96)
    made = inpaint(client, tmp_path / "whole", picture, mask).images[0]
    np.testing.assert_array_equal(made[:16], picture[:16])
    assert (made[28:44, 28:44] != picture[28:44, 28:44]).any(axis=2).mean() > 0.9
    with pytest.raises(ApiError) as caught:
        inpaint(client, tmp_path / "part", picture, mask, inpaint_full_res=True)
    assert told(caught)["error"] == "ImageSizeError"


@pytest.mark.parametrize("area", [False, True], ids=["whole", "only masked"])
def test_a_wide_blur(client: Client, sd15: Reference, tmp_path: Path, area: bool) -> None:
    """Of 64 pixels, which reach 160."""
    size = 64 if not area else 512
    picture, mask = glass_ball(size), box(size, 0, 0, 40, 40)
    made = inpaint(client, tmp_path / "run", picture, mask, mask_blur=64, inpaint_full_res=area)
    (image,) = made.images
    assert image.shape == (size, size, 4)
    if area:
        np.testing.assert_array_equal(image[210:, 210:], picture[210:, 210:])
    assert (image[:32, :32] != picture[:32, :32]).any()


@pytest.mark.parametrize("area", [False, True], ids=["whole", "only masked"])
def test_a_black_and_a_white_mask(
    client: Client, sd15: Reference, tmp_path: Path, area: bool
) -> None:
    picture = glass_ball(64)
    nothing, everything = box(64, 0, 0, 0, 0), box(64, 0, 0, 64, 64)
    made = inpaint(client, tmp_path / "white", picture, everything, inpaint_full_res=area)
    plain = run(client, FG, tmp_path / "plain", [picture])
    np.testing.assert_array_equal(made.images[0], plain.images[0])
    black = inpaint(client, tmp_path / "black", picture, nothing, inpaint_full_res=area)
    # The host goes on without a mask where it finds nothing to cut out, and says so.
    wanted = plain.images[0] if area else picture
    np.testing.assert_array_equal(black.images[0], wanted)


@pytest.mark.parametrize("area", [False, True], ids=["whole", "only masked"])
def test_what_is_not_masked(client: Client, sd15: Reference, tmp_path: Path, area: bool) -> None:
    picture, mask = glass_ball(64), box(64, 16, 16, 48, 48)
    options = {"inpaint_full_res": area, "inpainting_mask_invert": 1}
    made = inpaint(client, tmp_path / "run", picture, mask, **options)
    inside = mask[..., 0] > 0
    np.testing.assert_array_equal(made.images[0][inside], picture[inside])
    assert (made.images[0][~inside] != picture[~inside]).any(axis=1).mean() > 0.5


@pytest.mark.parametrize(
    "part", [(0, 0, 9, 9), (150, 140, 160, 160), (0, 70, 160, 80), (80, 80, 81, 81)]
)
def test_a_part_at_the_border(
    client: Client, sd15: Reference, tmp_path: Path, part: tuple[int, int, int, int]
) -> None:
    picture, mask = glass_ball(160), box(160, *part)
    picture[..., 3] = np.maximum(picture[..., 3], 40)
    options = {"inpaint_full_res": True, "inpaint_full_res_padding": 0, "denoising_strength": 1}
    made = inpaint(client, tmp_path / "run", picture, mask, **options)
    inside = mask[..., 0] > 0
    np.testing.assert_array_equal(made.images[0][~inside], picture[~inside])
    assert (made.images[0][inside] != picture[inside]).any()


@pytest.mark.parametrize(
    ("sampler", "strength"),
    [
        ("Euler", 0),
        ("Euler", 1),
        ("DPM++ 2M SDE", 0),
        ("DPM++ 2M SDE", 1),
        ("DPM adaptive", 0),
        ("DDIM", 0),
        ("DDIM", 0.3),  # No step, but noise.
        ("DDIM", 1),
        ("UniPC", 0),
    ],
)
def test_extremes_of_denoising(
    client: Client, sd15: Reference, tmp_path: Path, sampler: str, strength: float
) -> None:
    picture, mask = glass_ball(64), box(64, 24, 24, 48, 48)
    options = {"denoising_strength": strength, "sampler_name": sampler, "steps": 4}
    try:
        client.img2img([picture], width=64, height=64, **options)
    except ApiError:
        pytest.skip(f"the host fails by itself: {sampler} at {strength}")
    made = run(client, FG, tmp_path / "run", [picture], **options)
    assert made.images[0].shape == (64, 64, 4)
    if strength == 0:
        apart = np.abs(made.latents - made.init_latents).max()
        assert apart < 0.5 * np.abs(made.init_latents).max()
    kept = inpaint(client, tmp_path / "kept", picture, mask, **options).images[0]
    np.testing.assert_array_equal(kept[:24], picture[:24])


def test_batches_of_sets(client: Client, sd15: Reference, tmp_path: Path) -> None:
    picture, mask = glass_ball(64), box(64, 24, 24, 48, 48)
    options = {"mask_blur": 0, "inpainting_fill": 1, "inpaint_full_res": False}
    made = run(
        client,
        "joint_sd15",
        tmp_path / "run",
        [picture],
        mask=encode_image(mask),
        batch_size=2,
        n_iter=2,
        denoising_strength=0.9,
        **options,
    )
    assert [image.shape[2] for image in made.images] == [4, 3, 3] * 4
    outside, alpha = mask[..., 0] == 0, picture[..., 3:] / 255
    on_grey = picture[..., :3] * alpha + 128 * (1 - alpha)
    for row in range(0, 12, 3):
        fg, *others = made.images[row : row + 3]
        np.testing.assert_array_equal(fg[outside], picture[outside])
        for other in others:
            assert np.abs(other[outside] - on_grey[outside]).max() <= 2
    assert len({image.tobytes() for image in made.images}) == 12
