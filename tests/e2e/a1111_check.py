# ruff: noqa: E402 - the paths come before what lies in them
"""Checks of the extension in the code of AUTOMATIC1111's WebUI, without its server.

Runs in the WebUI's interpreter and folder: `a1111_check.py DATA HUB`. Networks are tiny, so SDXL
runs from end to end, too. Prints a line for each check, and ends with 1 at the first that fails.
"""

from __future__ import annotations

import base64
import copy
import io
import os
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
WEBUI = Path.cwd()
DATA, HUB = map(Path, sys.argv[1:3])
os.environ |= {"HF_HOME": str(DATA / "hub"), "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
sys.path[:0] = [str(path) for path in (WEBUI, ROOT, ROOT / "tests" / "fakes")]
for name in ("stable-diffusion-stability-ai", "generative-models"):
    sys.path.append(str(WEBUI / "repositories" / name))

import numpy as np
import tiny_a1111
import torch
from PIL import Image

from lib_layerdiffuse.host import Injection
from lib_layerdiffuse.methods import METHODS, Arch, Layer, LayerMethod, PatchKind, find_method
from lib_layerdiffuse.weights.patches import CONV_IN, LoRA, read_patches

SIDE = 128  # The UNets' least: the lowest level has 2 by 2 cells.
NAMES = {Layer.FG: "fg_image", Layer.BG: "bg_image", Layer.BLENDED: "blend_image"}
Images = list[np.ndarray]


def start() -> Any:
    """Returns a client of the WebUI's API, in this process."""
    tiny_a1111.write(DATA, HUB)
    (DATA / "extensions").mkdir()
    (DATA / "extensions" / "layerdiffuse").symlink_to(ROOT)
    sys.argv = ["webui.py", f"--data-dir={DATA}", "--use-cpu=all", "--no-half", "--no-hashing"]
    sys.argv += ["--no-download-sd-model", "--skip-version-check", "--api"]
    from modules import initialize

    initialize.imports()
    initialize.initialize()
    from fastapi import FastAPI
    from modules import script_callbacks, shared
    from modules.api.api import Api
    from modules.call_queue import queue_lock
    from starlette.testclient import TestClient

    app = FastAPI()
    Api(app, queue_lock)
    script_callbacks.before_ui_callback()
    script_callbacks.app_started_callback(None, app)
    assert shared.sd_model is not None
    client = TestClient(app)
    client.post("/sdapi/v1/options", json={"layerdiffuse_decoder_views": 1})
    return client


def as_base64(image: Image.Image) -> str:
    with io.BytesIO() as stream:
        image.save(stream, format="PNG")
        return base64.b64encode(stream.getvalue()).decode()


def given(method: LayerMethod) -> dict[str, Any]:
    images = (
        (NAMES[layer], Image.new("RGBA", (SIDE, SIDE), (200, 30, 90, 128)))
        for layer in method.inputs
    )
    return {"method": method.id} | {name: as_base64(image) for name, image in images}


def job(client: Any, settings: dict[str, Any] | None = None, **options: Any) -> Any:
    """Returns a job's images as arrays, or its answer where that is no success."""
    asked = {"prompt": "a cat", "steps": 2, "width": SIDE, "height": SIDE, "seed": 1}
    if settings is not None:
        asked["alwayson_scripts"] = {"LayerDiffuse": {"args": [settings]}}
    path = "img2img" if "init_images" in options else "txt2img"
    answer = client.post(f"/sdapi/v1/{path}", json={"sampler_name": "Euler", **asked, **options})
    if answer.status_code != 200:
        return answer
    files = (io.BytesIO(base64.b64decode(one)) for one in answer.json()["images"])
    return [np.asarray(Image.open(file)) for file in files]


def same(images: Images, others: Images) -> bool:
    return len(images) == len(others) and all(map(np.array_equal, images, others))


def state() -> Any:
    """Returns all that a job could have left on the UNet."""
    from modules import script_callbacks, shared

    model = shared.sd_model.model
    parts = {n: m for n, m in model.named_modules() if "forward" in vars(m)}
    hooks = [n for n, m in model.named_modules() if m._forward_hooks or m._forward_pre_hooks]
    sums = {n: p.detach().double().sum().item() for n, p in model.named_parameters()}
    return parts, hooks, sums, len(script_callbacks.callback_map["callbacks_cfg_denoiser"])


def check_methods(client: Any, arch: Arch) -> None:
    """Each method acts, alone and with a user's LoRA, and leaves nothing behind."""
    file = f"{arch.name.lower()}.safetensors"
    client.post("/sdapi/v1/options", json={"sd_model_checkpoint": file})
    lora = f"a cat <lora:{arch.name.lower()}:1>"
    plain = job(client)
    with_lora = job(client, prompt=lora)
    assert not same(plain, with_lora), "the LoRA does nothing"
    assert same(job(client), plain)
    before = state()
    for method in METHODS:
        if method.arch is not arch:
            continue
        for prompt, wanted in (("a cat", plain), (lora, with_lora)):
            made = job(client, given(method), prompt=prompt)
            kinds = [4 if layer is Layer.FG else 3 for layer in method.outputs]
            assert [image.shape[2] for image in made] == kinds, method.id
            assert not any(np.array_equal(image[..., :3], plain[0]) for image in made), method.id
            assert same(job(client, prompt=prompt), wanted), method.id
        assert same(job(client), plain), method.id
        assert state() == before, method.id
        print(f"checked: {method.id}", flush=True)


def check_numbers() -> None:
    """A method's weights count beside the UNet's own as if they were merged into them."""
    from modules import shared
    from safetensors.torch import load_file

    from lib_layerdiffuse.hosts.a1111 import A1111Host

    model, generator = shared.sd_model, torch.Generator().manual_seed(0)

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    x, t = noise(2, 4, 16, 16), torch.full((2,), 500.3)
    context = noise(2, 77, tiny_a1111.CLIP + tiny_a1111.OPEN_CLIP)
    y = noise(2, tiny_a1111.OPEN_CLIP + 6 * 256)
    for method in (m for m in METHODS if m.patch is PatchKind.WEIGHTS):
        file = DATA / "models" / "layer_model" / method.weights.filename
        patches = read_patches(load_file(file), method)
        channels = method.concat_channels
        concat = noise(1, channels, 16, 16) if channels else None
        one = Injection(method, 1.0, method.id, 0.7, patches=patches, concat=concat)
        with torch.no_grad():
            attachment = A1111Host(model).attach(one)
            found = model.model.diffusion_model(x, timesteps=t, context=context, y=y)
            attachment.detach()
            twin = copy.deepcopy(model.model)
            merge(twin, patches, 0.7)
            wide = x if concat is None else torch.cat([x, concat.expand(2, -1, -1, -1)], 1)
            wanted = twin.diffusion_model(wide, timesteps=t, context=context, y=y)
        assert (found - wanted).abs().max() < 1e-4 * wanted.abs().max(), method.id
    print("checked: numbers", flush=True)


def merge(model: Any, patches: Any, strength: float) -> None:
    parameters = dict(model.named_parameters())
    for key, patch in patches.items():
        delta = patch.up @ patch.down if isinstance(patch, LoRA) else patch.delta
        old = parameters[key]
        new = torch.zeros_like(delta)
        new[tuple(map(slice, old.shape))] = old
        owner = model.get_submodule(key.rpartition(".")[0])
        owner._parameters[key.rpartition(".")[2]] = torch.nn.Parameter(new + strength * delta)
    conv_in = model.get_submodule(CONV_IN.removesuffix(".weight"))
    conv_in.in_channels = conv_in.weight.shape[1]


def check_flows(client: Any) -> None:
    """What this WebUI does in a way of its own, on SD1.5."""
    client.post("/sdapi/v1/options", json={"sd_model_checkpoint": "sd15.safetensors"})
    one, joint = (given(find_method(name)) for name in ("fg_attn_sd15", "joint_sd15"))
    ball = np.zeros((96, SIDE, 4), np.uint8)
    ball[20:70, 30:90] = (200, 30, 90, 255)
    mask = Image.new("L", (SIDE, 96))
    mask.paste(255, (40, 20, 72, 52))
    init = {"init_images": [as_base64(Image.fromarray(ball))], "denoising_strength": 0.6}
    masked = {"mask": as_base64(mask), "inpaint_full_res": True, "inpainting_fill": 0}
    (image,) = job(client, one, **init, **masked)
    outside = np.asarray(mask.point(lambda level: level and 255)) == 0
    outside[8:64, 28:84] = False  # The mask is blurred.
    assert np.array_equal(image[outside], ball[outside])
    assert len(job(client, joint | {"show_matte": True})) == 4
    hires = {"enable_hr": True, "hr_scale": 2, "hr_upscaler": "Latent", "denoising_strength": 0.6}
    assert [i.shape for i in job(client, one, **hires)] == [(2 * SIDE, 2 * SIDE, 4)]
    refused = job(client, joint, prompt="a cat AND a dog")
    assert refused.status_code == 422
    assert refused.json()["detail"]["error"] == "MissingCapabilityError"
    assert len(job(client, one, prompt="a cat AND a dog")) == 1
    print("checked: flows", flush=True)


def main() -> None:
    client = start()
    check_methods(client, Arch.SDXL)
    check_numbers()
    check_methods(client, Arch.SD15)
    check_flows(client)


if __name__ == "__main__":
    code = 1
    try:
        main()
        code = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # The WebUI's threads would keep it.
