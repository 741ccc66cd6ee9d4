"""One small run of each flow of docs/flows.md that begins with an image, as in `text_flows`."""

from __future__ import annotations

from typing import Any

import numpy as np
from client import encode_image
from flow_bench import SIDE, Bench, Run, entering, held
from flow_jobs import SOFT_INPAINTING
from pictures import glass_ball
from PIL import Image

from lib_layerdiffuse.imaging.images import flatten, from_u8, to_u8
from lib_layerdiffuse.methods import Layer

RUNS: dict[str, Run] = {}
flow = entering(RUNS)


@flow("img2img from RGBA")
def img2img(bench: Bench) -> None:
    bench.check(bench.begun)


@flow("img2img from RGB")
def img2img_from_rgb(bench: Bench) -> None:
    made = bench.img2img([to_u8(flatten(from_u8(glass_ball(SIDE))))])
    bench.check(made)
    if bench.method.fg_frame is not None:
        row = bench.method.fg_frame
        apart = np.abs(made.init_latents[row] - bench.begun.init_latents[row])
        assert apart.max() > 0.002, "the init picture's alpha is not in the latent"


@flow("img2img, several images")
def img2img_of_several(bench: Bench) -> None:
    flipped = np.ascontiguousarray(glass_ball(SIDE)[:, ::-1])
    made = bench.img2img([glass_ball(SIDE), flipped], batch_size=2)
    bench.check(made, sets=2)
    first, second = made.init_latents[0], made.init_latents[bench.method.frames]
    assert np.abs(first - second).max() > 0.05, "both sets begin with one picture"


@flow("img2img, folder")
def img2img_of_a_folder(bench: Bench) -> None:
    source, target = bench.new_folder(), bench.new_folder()
    for name, picture in (("a", glass_ball(SIDE)), ("b", glass_ball(SIDE)[::-1])):
        Image.fromarray(np.ascontiguousarray(picture)).save(source / f"{name}.png")
    script = {"script_name": "e2e folder", "script_args": [str(source), str(target)]}
    alone = {"return_grid": False}
    made = bench.img2img(save_images=True, override_settings=alone, **script)
    bench.check_acted(made)
    channels = [4 if layer is Layer.FG else 3 for layer in bench.method.outputs]
    assert [image.shape[2] for image in made.images] == 2 * channels
    saved = [np.asarray(Image.open(path)).shape for path in target.rglob("*.png")]
    assert sorted(saved) == sorted((SIDE, SIDE, c) for c in 2 * channels)


@flow("Loopback")
def loopback(bench: Bench) -> None:
    last = {"loops": 2, "final_denoising_strength": bench.STRENGTH}
    made = bench.img2img(**bench.client.script_args("loopback", img2img=True, **last))
    bench.check_acted(made)
    first, second = made.images[-2:]
    # Other layers begin with what the host draws from the VAE's posterior, unseeded.
    levels = 0 if bench.method.outputs == (Layer.FG,) else 3
    assert np.abs(first.astype(int) - bench.begun.images[0]).max() <= levels
    assert second.shape == first.shape
    assert (second != first).any()


@flow("SD upscale")
def sd_upscale(bench: Bench) -> None:
    bench.img2img(**bench.client.script_args("sd upscale", img2img=True, tile_overlap=16))


@flow("Poor man's outpainting")
def poor_mans_outpainting(bench: Bench) -> None:
    title = "poor man's outpainting"
    made = bench.img2img(**bench.client.script_args(title, img2img=True, pixels_to_expand=16))
    bench.check_acted(made)


@flow("Outpainting mk2")
def outpainting_mk2(bench: Bench) -> None:
    title = "outpainting mk2"
    made = bench.img2img(**bench.client.script_args(title, img2img=True, pixels_to_expand=64))
    bench.check_acted(made)


@flow("img2img alternative test")
def alternative_test(bench: Bench) -> None:
    title = "img2img alternative test"
    prompts = {"original_prompt": "a ball", "original_negative_prompt": "blurry"}
    script = bench.client.script_args(title, img2img=True, decode_steps=2, **prompts)
    made = bench.img2img(**script)
    bench.check_acted(made)


BOX = np.zeros((SIDE, SIDE, 3), np.uint8)
BOX[16:48, 16:48] = 255
AROUND = np.ones((SIDE // 8, SIDE // 8), bool)
AROUND[2:6, 2:6] = False
INPAINT = {"mask": encode_image(BOX), "mask_blur": 0, "inpainting_fill": 1}
WHOLE = {**INPAINT, "inpaint_full_res": False}


@flow("Inpaint, whole picture")
def inpaint(bench: Bench) -> None:
    made = bench.img2img(**WHOLE)
    bench.check_layers(made)
    bench.check_kept(made, BOX[..., 0] == 0)
    assert held(made, AROUND)
    assert not held(made, ~AROUND)


@flow("Inpaint, only masked")
def inpaint_only_masked(bench: Bench) -> None:
    picture, mask = glass_ball(160), np.zeros((160, 160, 3), np.uint8)
    mask[50:90, 60:100] = 255
    job = {**INPAINT, "mask": encode_image(mask), "inpaint_full_res": True}
    made = bench.img2img([picture], **job)
    bench.check_layers(made, side=160)
    bench.check_kept(made, mask[..., 0] == 0, picture)


@flow("Inpaint, the mask from the image's alpha")
def inpaint_by_alpha(bench: Bench) -> None:
    job = {key: value for key, value in WHOLE.items() if key != "mask"}
    made = bench.img2img(settings={"mask_source": "Visible part"}, **job)
    bench.check_layers(made)
    clear = glass_ball(SIDE)[..., 3] == 0
    bench.check_kept(made, clear)
    assert held(made, clear.reshape(8, 8, 8, 8).all(axis=(1, 3)))


@flow("Soft inpainting")
def soft_inpainting(bench: Bench) -> None:
    mask = np.zeros((SIDE, SIDE, 3), np.uint8)
    mask[40:, 40:] = 255
    job = WHOLE | {"mask": encode_image(mask), "mask_blur": 4}
    made = bench.img2img(scripts=SOFT_INPAINTING, **job)
    bench.check_layers(made)
    corner = np.zeros((SIDE, SIDE), bool)
    corner[:8, :8] = True
    bench.check_kept(made, corner)
    opposite = np.zeros((SIDE // 8, SIDE // 8), bool)
    opposite[6:, 6:] = True
    assert not held(made, opposite)


def change_map() -> dict[str, list[Any]]:
    """Returns arguments under which the left half may not change, and the rest by and by."""
    levels = np.concatenate([np.zeros(32), np.repeat([64, 128, 192, 255], 8)]).astype(np.uint8)
    ramp = np.broadcast_to(levels[None, :, None], (SIDE, SIDE, 3))
    picture = encode_image(np.ascontiguousarray(ramp))
    return {"differential diffusion": [{"source": "Picture", "picture": picture}]}


LEFT = np.zeros((SIDE // 8, SIDE // 8), bool)
LEFT[:, :2] = True  # The host blurs a mask by two cells when it makes it the latent's size.


@flow("Differential Diffusion")
def differential_diffusion(bench: Bench) -> None:
    made = bench.img2img(scripts=change_map())
    bench.check_layers(made)
    bench.check_kept(made, np.repeat(np.repeat(LEFT, 8, 0), 8, 1))
    assert held(made, LEFT)
    assert not held(made, ~LEFT)
    assert "Differential Diffusion: True" in made.infotexts[0]


@flow("Differential Diffusion with soft inpainting")
def two_soft_masks(bench: Bench) -> None:
    bench.img2img(scripts=change_map() | SOFT_INPAINTING, **WHOLE)


@flow("Colour correction")
def colour_correction(bench: Bench) -> None:
    made = bench.img2img(override_settings={"img2img_color_correction": True})
    bench.check_acted(made)
    # The host draws other layers' init latents from the VAE's posterior before it seeds anything.
    apart = np.abs(made.latents - bench.begun.latents).max()
    assert apart <= 0.01 * np.abs(bench.begun.latents).max()
    bench.check_edited(made, bench.begun, levels=2 if bench.method.frames > 1 else 0)
