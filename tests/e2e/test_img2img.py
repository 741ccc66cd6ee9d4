"""img2img: the foreground begins with the init picture's transparency, whatever the host does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from client import Client, Result, encode_image
from forge_server import ForgeServer
from layers import assert_same, conditioning, difference, notes, request
from pictures import glass_ball, lake_scene
from PIL import Image
from random_weights import SD15, SDXL
from real_forge import Models
from safetensors.torch import load_file
from torch import nn

from lib_layerdiffuse.codec import TransparentEncoder
from lib_layerdiffuse.images import ResizeMode, as_rgba, fit, from_u8, pad_colours
from lib_layerdiffuse.methods import ENCODERS, METHODS, Arch, Layer, LayerMethod, find_method

Plain = Callable[..., Result]
SMALL = {"width": 64, "height": 64}
CHECKPOINTS = {Arch.SD15: SD15, Arch.SDXL: SDXL}
BY_FAMILY = sorted(METHODS, key=lambda method: method.arch.value)
MODES = [ResizeMode.STRETCH, ResizeMode.CROP, ResizeMode.FILL]


def run(client: Client, method_id: str, record: Path, images: list | None = None, **options):
    """Runs one method on init pictures, by default the ball at the job's size."""
    images = [glass_ball(64)] if images is None else images
    scripts = request(method_id, **options.pop("settings", {})) | options.pop("others", {})
    more = {**SMALL, "denoising_strength": 0.4, "resize_mode": 0, **options}
    return client.img2img(images, scripts=scripts, record=record, **more)


class Reference:
    """The equations of a transparent picture's latent, on the VAE that the server has loaded."""

    def __init__(self, client: Client, models: Models, arch: Arch) -> None:
        self.client = client
        (path,) = (p for p in models.layer_weights if p.name == ENCODERS[arch].filename)
        self.encoder = TransparentEncoder.from_state_dict(load_file(path))

    def latent(self, picture: np.ndarray, strength: float = 300.0) -> np.ndarray:
        """Returns `1 4 h w` of a picture, uint8 or float, with or without alpha."""
        rgba = as_rgba(picture)
        alpha = rgba[..., 3:]
        found = self.client.moments(rgba[..., :3] * alpha + 0.5 * (1 - alpha))
        padded = torch.from_numpy(pad_colours(rgba)).permute(2, 0, 1).unsqueeze(0)
        offset = self.encoder.offset(padded).numpy()
        return found["factor"] * (found["mean"] + found["std"] * strength * offset)

    def flat(self, rgb: np.ndarray) -> np.ndarray:
        """Returns the latent's mean of an opaque picture of floats."""
        found = self.client.moments(rgb)
        return found["factor"] * found["mean"]


def check(got: np.ndarray, wanted: np.ndarray, share: float = 1e-3) -> None:
    """Checks latents to a share of their spread."""
    assert got.shape == wanted.shape
    assert np.abs(got - wanted).max() <= share * wanted.std(), np.abs(got - wanted).max()


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
    assert not np.allclose(wanted, sd15.latent(glass_ball(64), 0), atol=0.05 * wanted.std())
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
    layers = [image for image in made.images if image.shape[2] == 4 and len(image) == 64]
    assert len(layers) == 2
    check(made.init_latents, sd15.latent(layers[0]))


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
        script_name="e2e folder",
        script_args=[str(source), str(target)],
    )
    assert [image.shape[2] for image in made.images] == [4, 3] * 4
    saved = [np.asarray(Image.open(path)) for path in sorted(target.rglob("*.png"))]
    assert sorted(image.shape[2] for image in saved) == [3] * 4 + [4] * 4
    check(made.init_latents[2:3], sd15.latent(flipped))  # The record is the last picture's.


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
    tiled = client.img2img(
        [glass_ball(64)],
        scripts=request("fg_attn_sd15") | {"never oom integrated": [False, True]},
        record=tmp_path / "tiled",
        **SMALL,
    )
    client.img2img([glass_ball(64)], scripts={"never oom integrated": [False, False]}, **SMALL)
    check(tiled.init_latents, wanted)


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
    assert_same(before, after)


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
