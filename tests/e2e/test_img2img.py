"""img2img: the foreground begins with the init image's transparency, whatever the host does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from client import ApiError, Client, Result, encode_image
from flow_jobs import CHECKPOINTS
from forge_server import ForgeServer
from init_latents import EXACT, SMALL, Reference, apart, check, run
from layers import assert_same, conditioning, difference, notes
from pictures import glass_ball, lake_scene
from PIL import Image
from random_weights import SD15, SDXL
from real_forge import Models
from torch import nn

from lib_layerdiffuse.imaging.images import ResizeMode, fit, from_u8
from lib_layerdiffuse.methods import METHODS, Arch, Layer, LayerMethod, find_method

Plain = Callable[..., Result]
BY_FAMILY = sorted(METHODS, key=lambda method: method.arch.value)
MODES = [ResizeMode.STRETCH, ResizeMode.CROP, ResizeMode.FILL]


@pytest.fixture
def sd15(client: Client, models: Models) -> Reference:
    client.use_checkpoint(SD15)
    return Reference(client, models, Arch.SD15)


def test_the_foreground_begins_with_the_alpha(
    client: Client, sd15: Reference, plain: Plain, tmp_path: Path
) -> None:
    before = plain(SD15, **SMALL)
    made = run(client, "fg_attn_sd15", tmp_path / "run")
    wanted = sd15.latent(glass_ball(64))
    check(made.init_latents, wanted)
    (image,) = made.images
    assert image.shape == (64, 64, 4)
    assert image[..., 3].astype(int).std() > 5
    assert apart(sd15.latent(glass_ball(64), 1), wanted) > 3 * EXACT
    weak = run(
        client,
        "fg_attn_sd15",
        tmp_path / "weak",
        override_settings={"layerdiffuse_offset_strength": 1},
    )
    check(weak.init_latents, sd15.latent(glass_ball(64), 1))
    after = client.txt2img(record=tmp_path / "after", **SMALL)
    assert_same(before, after)
    assert after.run["checksum"] == before.run["checksum"]


def test_sdxl(client: Client, models: Models, tmp_path: Path) -> None:
    client.use_checkpoint(SDXL)
    made = run(client, "fg_attn_sdxl", tmp_path / "run")
    check(made.init_latents, Reference(client, models, Arch.SDXL).latent(glass_ball(64)))
    assert made.images[0].shape == (64, 64, 4)


@pytest.mark.parametrize("method", BY_FAMILY, ids=lambda method: method.id)
def test_every_method_with_and_without_a_mask_and_a_map(
    client: Client, models: Models, tmp_path: Path, method: LayerMethod
) -> None:
    client.use_checkpoint(CHECKPOINTS[method.arch])
    picture, mask = glass_ball(64), np.zeros((64, 64, 3), np.uint8)
    mask[24:48, 24:48] = 255
    masked = {"mask": encode_image(mask), "mask_blur": 0, "inpaint_full_res": False}
    jobs = {
        "img2img": {},
        "inpaint": {**masked, "inpainting_fill": 1},
        "map": {**masked, "others": {"differential diffusion": [{"source": "Inpaint mask"}]}},
    }
    for name, options in jobs.items():
        made = run(client, method.id, tmp_path / name, [picture], **options)
        assert len(made.images) == method.frames
        for layer, image in zip(method.outputs, made.images, strict=True):
            assert image.shape == (64, 64, 4 if layer is Layer.FG else 3), (name, layer)
        if method.fg_frame is None:
            continue
        begun = made.init_latents[method.fg_frame : method.fg_frame + 1]
        check(begun, Reference(client, models, method.arch).latent(picture))
        kept = made.images[method.fg_frame][mask[..., 0] == 0]
        assert np.array_equal(kept, picture[mask[..., 0] == 0]) == (name != "img2img")


def test_an_rgb_picture_is_opaque(client: Client, sd15: Reference, tmp_path: Path) -> None:
    made = run(client, "fg_attn_sd15", tmp_path / "run", [lake_scene(64)])
    check(made.init_latents, sd15.latent(lake_scene(64)))


@pytest.mark.parametrize("mode", [0, 1, 2])
def test_resize_modes(client: Client, sd15: Reference, tmp_path: Path, mode: int) -> None:
    wide = glass_ball(192)[30:150]
    made = run(client, "fg_attn_sd15", tmp_path / "run", [wide], resize_mode=mode)
    check(made.init_latents, sd15.latent(fit(from_u8(wide), 64, 64, MODES[mode])))


def test_latent_upscale(client: Client, sd15: Reference, tmp_path: Path) -> None:
    picture = glass_ball(100)[:92]
    made = run(client, "fg_attn_sd15", tmp_path / "run", [picture], resize_mode=3)
    small = torch.from_numpy(sd15.latent(picture[:88, :96]))
    wanted = nn.functional.interpolate(small, size=(8, 8), mode="bilinear").numpy()
    check(made.init_latents, wanted)


def test_layers_of_a_set(client: Client, sd15: Reference, tmp_path: Path) -> None:
    made = run(client, "bg_to_fg_sd15", tmp_path / "run")
    fg = from_u8(glass_ball(64))
    bg = fit(from_u8(lake_scene(256)), 64, 64, ResizeMode.CROP)
    alpha = fg[..., 3:]
    over = fg[..., :3] * alpha + bg * (1 - alpha)
    check(made.init_latents[:1], sd15.latent(glass_ball(64)))
    # The host draws from the VAE's posterior; random weights spread it.
    spread = client.moments(over)
    limit = 6 * (spread["factor"] * spread["std"]).max() + 0.02
    assert np.abs(made.init_latents[1:] - sd15.flat(over)).max() < limit
    assert [image.shape[2] for image in made.images] == [4, 3]


def test_several_pictures_and_sets(client: Client, sd15: Reference, tmp_path: Path) -> None:
    pictures = [glass_ball(64), np.ascontiguousarray(glass_ball(64)[:, ::-1])]
    made = run(client, "joint_sd15", tmp_path / "run", pictures, batch_size=2, n_iter=2)
    assert [image.shape[2] for image in made.images] == [4, 3, 3] * 4
    for row, picture in zip((0, 3, 6, 9), pictures * 2, strict=True):
        check(made.init_latents[row : row + 1], sd15.latent(picture))
    one = run(client, "joint_sd15", tmp_path / "one", pictures[:1], batch_size=2)
    assert len(one.images) == 6
    check(one.init_latents[3:4], sd15.latent(pictures[0]))


def test_loopback(client: Client, sd15: Reference, tmp_path: Path) -> None:
    made = run(
        client,
        "fg_attn_sd15",
        tmp_path / "run",
        script_name="loopback",
        script_args=[2, 0.5, "Linear", "None"],
    )
    first, second = (image for image in made.images if image.shape == (64, 64, 4))
    assert not np.array_equal(first, second)
    check(made.init_latents, sd15.latent(first))


@pytest.mark.parametrize("area", [False, True], ids=["whole", "only masked"])
def test_loopback_with_a_mask(client: Client, sd15: Reference, tmp_path: Path, area: bool) -> None:
    picture, mask = glass_ball(96), np.zeros((96, 96, 3), np.uint8)
    mask[40:72, 40:72] = 255
    picture = picture if area else glass_ball(64)
    mask = mask if area else np.ascontiguousarray(mask[16:80, 16:80])
    made = run(
        client,
        "fg_attn_sd15",
        tmp_path / "run",
        [picture],
        mask=encode_image(mask),
        mask_blur=0,
        inpaint_full_res=area,
        inpaint_full_res_padding=8,
        inpainting_fill=2,
        script_name="loopback",
        script_args=[2, 0.5, "Linear", "None"],
    )
    first, second = (image for image in made.images if image.shape == picture.shape)
    for image in (first, second):
        np.testing.assert_array_equal(image[mask[..., 0] == 0], picture[mask[..., 0] == 0])
    assert not np.array_equal(first, second)
    if not area:
        check(made.init_latents, sd15.latent(first))


def in_folders(*folders: Path) -> dict[str, object]:
    """Returns the fields of a job of the Batch tab, which saves images but no grid of them."""
    return {
        "script_name": "e2e folder",
        "script_args": [str(folder) for folder in folders],
        "save_images": True,
        "override_settings": {"return_grid": False},
    }


def test_a_folder(client: Client, sd15: Reference, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    flipped = np.ascontiguousarray(glass_ball(64)[::-1])
    for name, picture in (("a", glass_ball(64)), ("b", flipped)):
        Image.fromarray(picture).save(source / f"{name}.png")
    made = run(
        client,
        "bg_to_fg_sd15",
        tmp_path / "run",
        batch_size=2,
        **in_folders(source, target),
    )
    assert [image.shape[2] for image in made.images] == [4, 3] * 4
    saved = [np.asarray(Image.open(path)) for path in sorted(target.rglob("*.png"))]
    assert sorted(image.shape[2] for image in saved) == [3] * 4 + [4] * 4
    check(made.init_latents[2:3], sd15.latent(flipped))  # The record is the last image's.


def test_a_folder_with_masks(client: Client, sd15: Reference, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("source", "target", "masks")]
    source, target, masks = folders
    for folder in folders:
        folder.mkdir()
    pictures = {"a": glass_ball(64), "b": np.ascontiguousarray(glass_ball(64)[::-1])}
    rows = {"a": slice(8, 32), "b": slice(40, 64)}
    for name, picture in pictures.items():
        Image.fromarray(picture).save(source / f"{name}.png")
        mask = np.zeros((64, 64), np.uint8)
        mask[rows[name]] = 255
        Image.fromarray(mask).save(masks / f"{name}.png")
    made = run(
        client,
        "fg_attn_sd15",
        tmp_path / "run",
        mask_blur=0,
        inpaint_full_res=False,
        inpainting_fill=1,
        **in_folders(source, target, masks),
    )
    for (name, picture), image in zip(pictures.items(), made.images, strict=True):
        kept = np.ones(64, bool)
        kept[rows[name]] = False
        np.testing.assert_array_equal(image[kept], picture[kept])
        assert not np.array_equal(image, picture)
    assert len(list(target.rglob("*.png"))) == 2


@pytest.mark.parametrize("kind", ["memory", "error"])
def test_memory_that_is_full_for_the_vae(
    client: Client, sd15: Reference, tmp_path: Path, kind: str
) -> None:
    """The host's own use of the VAE comes first, then ours, which goes on in tiles."""
    wanted = sd15.latent(glass_ball(64))
    options = {"others": {"e2e faults": ["vae.encode", 1, kind]}}
    if kind == "memory":
        made = run(client, "fg_attn_sd15", tmp_path / "run", **options)
        check(made.init_latents, wanted)
        return
    with pytest.raises(ApiError, match="fault asked for"):
        run(client, "fg_attn_sd15", tmp_path / "run", **options)


def test_memory_that_is_full_for_the_encoder(
    client: Client, sd15: Reference, tmp_path: Path
) -> None:
    before = run(client, "fg_attn_sd15", tmp_path / "before")
    with pytest.raises(ApiError) as caught:
        run(
            client,
            "fg_attn_sd15",
            tmp_path / "run",
            others={"e2e faults": ["encoder", 0, "memory"]},
        )
    assert caught.value.status == 503
    assert "the transparent encoder does not fit" in caught.value.body["detail"]["message"]
    assert not (tmp_path / "run" / "run.json").exists()
    assert_same(before, run(client, "fg_attn_sd15", tmp_path / "after"))


def test_a_chain(client: Client, models: Models, tmp_path: Path) -> None:
    client.use_checkpoint(SDXL)
    mask = encode_image(np.full((64, 64, 3), 255, np.uint8))
    options = {"settings": {"chain": True}, "mask": mask, "inpainting_fill": 1, "steps": 3}
    made = run(client, "fg_to_blended_sdxl", tmp_path / "run", **options, inpaint_full_res=False)
    assert made.info["extra_generation_params"]["layerdiffusion_layers"][:2] == ["blended", "bg"]
    assert [image.shape for image in made.images[:2]] == [(64, 64, 3)] * 2
    with pytest.raises(ApiError) as caught:
        run(client, "fg_to_blended_sdxl", tmp_path / "part", **options, inpaint_full_res=True)
    assert caught.value.status == 422
    assert caught.value.body["detail"]["field"] == "chain"


def write_taesd(path: Path) -> None:
    """Writes a random TAESD encoder."""

    def conv(inputs: int, outputs: int, **options) -> nn.Conv2d:
        return nn.Conv2d(inputs, outputs, 3, padding=1, **options)

    def block() -> nn.ModuleDict:
        layers = [conv(64, 64), nn.ReLU(), conv(64, 64), nn.ReLU(), conv(64, 64)]
        return nn.ModuleDict({"conv": nn.Sequential(*layers)})

    stage = [lambda: conv(64, 64, stride=2, bias=False), block, block, block]
    layers = [conv(3, 64), block(), *(make() for make in stage * 3), conv(64, 4)]
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(nn.Sequential(*layers).state_dict(), path)


def test_taesd_and_tiles(
    forge: ForgeServer, client: Client, sd15: Reference, tmp_path: Path
) -> None:
    write_taesd(forge.data_dir / "models" / "VAE-taesd" / "taesd_encoder.pth")
    wanted = sd15.latent(glass_ball(64))
    made = run(
        client,
        "fg_attn_sd15",
        tmp_path / "taesd",
        override_settings={"sd_vae_encode_method": "TAESD"},
    )
    assert "VAE Encoder: TAESD" in made.infotexts[0]
    check(made.init_latents, wanted)
    large = {"width": 128, "height": 128}  # The host's tiles overlap by more than 64 pixels.
    tiled = run(
        client,
        "fg_attn_sd15",
        tmp_path / "tiled",
        [glass_ball(128)],
        others={"never oom integrated": [False, True]},
        **large,
    )
    client.img2img([glass_ball(64)], scripts={"never oom integrated": [False, False]}, **SMALL)
    check(tiled.init_latents, sd15.latent(glass_ball(128)))


def test_colours_change_and_alpha_stays(client: Client, sd15: Reference, tmp_path: Path) -> None:
    plain = run(client, "fg_attn_sd15", tmp_path / "plain")
    corrected = run(
        client,
        "fg_attn_sd15",
        tmp_path / "corrected",
        override_settings={"img2img_color_correction": True},
    )
    assert difference(plain, corrected) == 0
    assert corrected.images[0].shape == (64, 64, 4)
    assert not np.array_equal(plain.images[0][..., :3], corrected.images[0][..., :3])


def test_methods_without_a_foreground_and_plain_jobs(client: Client, tmp_path: Path) -> None:
    client.use_checkpoint(SD15)
    before = client.img2img([glass_ball(64)], record=tmp_path / "before", **SMALL)
    made = run(client, "fg_to_bg_sd15", tmp_path / "run")
    assert [image.shape[2] for image in made.images] == [3, 3]
    assert notes(made) == []
    assert client.options()["img2img_background_color"] == "#ffffff"
    after = client.img2img([glass_ball(64)], record=tmp_path / "after", **SMALL)
    # The host's own init latent is drawn from the VAE's posterior before anything is seeded.
    assert apart(after.latents, before.latents) < EXACT
    assert after.run["checksum"] == before.run["checksum"]


def test_by_position_each_layer_has_its_own(
    client: Client, sd15: Reference, tmp_path: Path
) -> None:
    method = find_method("bg_to_fg_sd15")
    bg = conditioning(method)["bg_image"]
    made = client.img2img(
        [glass_ball(64), lake_scene(64)],
        scripts={"layerdiffuse": [True, method.label, 1, 1, None, bg]},
        batch_size=2,
        record=tmp_path / "run",
        denoising_strength=0.4,
        **SMALL,
    )
    assert [image.shape[2] for image in made.images] == [4, 3]
    check(made.init_latents[:1], sd15.latent(glass_ball(64)))
