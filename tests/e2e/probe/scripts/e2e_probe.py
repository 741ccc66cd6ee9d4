"""Test-only WebUI extension: records what a run really did and can break a run on purpose.

Arguments of the always-on script "E2E Probe" (all optional):
    0. folder that the record is written to ("" records nothing)
    1. step at which the UNet raises (-1 never)
    2. step at which a stop is requested (-1 never)
    3. image to upscale, as the button below the gallery asks for it ("" samples as usual)
    4. which stop is requested: a method of the host's state, by default "interrupt"
    5. whether the record tells the checksums of all weights, which take seconds

A step is a distinct timestep of one sampling run that the UNet is called with, counted from 0
over the whole job.
The record is ``latents_<n>.npy`` and ``pixels_<n>.npy`` for each batch: what the VAE was given at
last and what it made of that, whoever decoded; ``first_<n>.npy`` with what the first of two passes
returned; ``init_<n>.npy`` for what img2img began with; ``steps_<n>.npz`` where an inpaint mask was
blended in; and ``run.json``. Steps hold, for each call of the network, its ``sigma``, noisy latent
``x``, ``denoised`` latent and the ``blended`` one that it became, and the ``map``, the mask as the
host had it.

The selectable script "E2E Folder" runs img2img's Batch tab; its arguments are the folders that
images come from and go to.

``GET /e2e/model`` describes the model that is loaded now, see `describe_model`; ``GET /e2e/memory``
gives the process's memory in bytes.
``POST /e2e/moments`` takes an image as ``pixels``, the base64 of an ``.npy`` file of H W 3 floats
in [0, 1], and answers with the ``mean`` and ``std`` of the chosen VAE's posterior and its
scaling ``factor``.
"""

from __future__ import annotations

import base64
import ctypes
import gc
import io
import json
import sys
import zlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import numpy as np
import psutil
import torch
from modules import img2img, processing, script_callbacks, scripts, shared
from modules.api.api import decode_base64_to_image
from modules.call_queue import queue_lock
from webui_model import load_vae, unet_wrapper, vae, vae_factor


def parameter_checksum(name: str, value: torch.Tensor, seed: int) -> int:
    """Continues an exact checksum over a parameter's name, type, shape and bytes."""
    seed = zlib.crc32(f"{name} {value.dtype} {tuple(value.shape)}".encode(), seed)
    flat = value.detach().cpu().contiguous().flatten()
    return zlib.crc32(flat.view(torch.uint8).numpy(), seed)


def vae_checksum() -> int:
    """Returns an exact checksum of the loaded VAE."""
    checksum = 0
    for name, value in vae().named_parameters():
        checksum = parameter_checksum(name, value, checksum)
    return checksum


def describe_model(checksums: bool = True) -> dict[str, Any]:
    """Describes the loaded UNet.

    Args:
        checksums: Whether to tell the two that take seconds.

    Returns:
        ``checksum``: over all named parameters; ``vae``: over the VAE's; ``parameters``: how many
        there are;
        ``overridden``: modules whose ``forward`` was replaced; ``hooks``: number of forward hooks;
        ``rss``: memory of the process in bytes.
    """
    description: dict[str, Any] = {"rss": psutil.Process().memory_info().rss}
    model = unet_wrapper()
    if model is None:
        return description
    if checksums:
        checksum = 0
        for name, value in model.named_parameters():
            checksum = parameter_checksum(name, value, checksum)
        description |= {"checksum": f"{checksum:08x}", "vae": f"{vae_checksum():08x}"}
    modules = dict(model.named_modules())
    return description | {
        "checkpoint": Path(shared.sd_model.sd_checkpoint_info.filename).name,
        "parameters": sum(1 for _ in model.parameters()),
        "overridden": [name for name, module in modules.items() if "forward" in vars(module)],
        "hooks": sum(
            len(module._forward_hooks) + len(module._forward_pre_hooks)
            for module in modules.values()
        ),
    }


class DecodeWatch:
    """Remembers what the host decodes, in whichever pass."""

    def __init__(self) -> None:
        self.batches: list[np.ndarray] = []
        self._decode = processing.decode_latent_batch
        processing.decode_latent_batch = self

    def __call__(self, model: Any, batch: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        self.batches.append(batch.float().cpu().numpy())
        return self._decode(model, batch, *args, **kwargs)


class Steps:
    """Notes what the sampler sees and gets at each call of the network."""

    def __init__(self) -> None:
        self.noted: dict[str, list[np.ndarray]] = {}

    def note(self, name: str, value: torch.Tensor) -> None:
        """Adds a value of the current call."""
        self.noted.setdefault(name, []).append(value.detach().float().cpu().numpy().copy())

    def take(self) -> dict[str, np.ndarray]:
        """Returns what was noted since, each name stacked."""
        noted, self.noted = self.noted, {}
        return {name: np.stack(values) for name, values in noted.items()}


class Saboteur:
    """Counts the UNet's steps and, at a given one, raises or asks for an interrupt."""

    def __init__(self) -> None:
        self.steps = 0
        self.calls = 0
        self.passes: list[dict[str, Any]] = []
        self._timestep: float | None = None
        self._fail_at = -1
        self._stop_at, self._stop = -1, "interrupt"
        self._handles: list[Any] = []
        self._entered: tuple[torch.nn.Module, torch.Tensor] | None = None

    def arm(self, model: torch.nn.Module, fail_at: int, stop_at: int, stop: str) -> None:
        """Watches a UNet, in place of any that was watched before."""
        self.disarm()
        self._fail_at, self._stop_at, self._stop = fail_at, stop_at, stop
        self._starts = True
        self._handles = [
            model.register_forward_pre_hook(self._before_call, with_kwargs=True),
            # By then whoever changes the UNet for a call has done so, whatever comes first.
            model.time_embed.register_forward_pre_hook(self._in_call),
        ]

    def disarm(self) -> None:
        """Stops watching."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _in_call(self, *_: Any) -> None:
        if self._entered is not None:
            self.passes.append(describe_pass(*self._entered))
            self._entered = None

    def _before_call(self, module: torch.nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        timesteps = args[1] if len(args) > 1 else kwargs["timesteps"]
        timestep = float(timesteps.flatten()[0])
        self.calls += 1
        if self._starts:
            self._starts = False
            self._timestep = None
            self._entered = module, args[0] if args else kwargs["x"]
        if timestep == self._timestep:
            return
        self._timestep = timestep
        step, self.steps = self.steps, self.steps + 1
        if step == self._stop_at:
            getattr(shared.state, self._stop)()
        if step == self._fail_at:
            self.disarm()
            raise RuntimeError(f"E2E probe: failure asked for at step {step}")


class E2EProbe(scripts.Script):
    """The always-on script."""

    saboteur = Saboteur()
    steps = Steps()

    def title(self) -> str:
        """Names the script for the API."""
        return "E2E Probe"

    def show(self, is_img2img: bool) -> Any:
        """Runs on every job of both tabs."""
        return scripts.AlwaysVisible

    def ui(self, is_img2img: bool) -> list[Any]:
        """Declares the arguments."""
        return [
            gr.Textbox(label="Record folder", value="", visible=False),
            gr.Number(label="Fail at step", value=-1, visible=False),
            gr.Number(label="Stop at step", value=-1, visible=False),
            gr.Textbox(label="Picture to upscale", value="", visible=False),
            gr.Textbox(label="Kind of stop", value="interrupt", visible=False),
            gr.Checkbox(label="Checksums", value=True, visible=False),
        ]

    def before_process(
        self,
        p: Any,
        folder: str = "",
        fail_at: int = -1,
        stop_at: int = -1,
        picture: str = "",
        *args: Any,
    ) -> None:
        """Forgets an earlier job, which may have ended in an exception."""
        self.saboteur.disarm()
        type(self).saboteur = Saboteur()
        decode_watch.batches.clear()
        if picture:
            p.firstpass_image, p.txt2img_upscale = decode_base64_to_image(picture), True
            p.width, p.height = p.firstpass_image.size

    def process_before_every_sampling(
        self,
        p: Any,
        folder: str = "",
        fail_at: int = -1,
        stop_at: int = -1,
        picture: str = "",
        stop: str = "interrupt",
        *args: Any,
        **kwargs: Any,
    ) -> None:
        """Watches the UNet that is about to run, and what its sampler returns."""
        self.steps.noted = {}
        if getattr(p, "nmask", None) is not None:
            self.steps.note("map", p.nmask[0] if p.nmask.ndim > 3 else p.nmask)  # Neo's has rows.
        if folder and not getattr(p, "is_hr_pass", False):
            keep_first_pass(p, Path(folder))
        model = unet_wrapper().diffusion_model
        self.saboteur.arm(model, int(fail_at), int(stop_at), stop)

    def post_sample(self, p: Any, ps: Any, folder: str = "", *args: Any) -> None:
        """Writes the batch's latents; where the host has decoded already, those that it decoded."""
        if not folder:
            return
        decoded = getattr(ps.samples, "already_decoded", False)
        latents = decode_watch.batches[-1] if decoded else ps.samples.float().cpu().numpy()
        Path(folder).mkdir(parents=True, exist_ok=True)
        np.save(Path(folder) / f"latents_{p.iteration}.npy", latents)
        if getattr(p, "init_latent", None) is not None:
            init = p.init_latent.float().cpu().numpy()
            np.save(Path(folder) / f"init_{p.iteration}.npy", init)
        steps = self.steps.take()
        if "denoised" in steps:
            np.savez(Path(folder) / f"steps_{p.iteration}.npz", **steps)

    def postprocess_batch(self, p: Any, folder: str = "", *args: Any, **kwargs: Any) -> None:
        """Writes the batch's images as the VAE made them, in [0, 1]."""
        if folder:
            np.save(Path(folder) / f"pixels_{p.iteration}.npy", kwargs["images"].cpu().numpy())

    def on_mask_blend(self, p: Any, mba: Any, folder: str = "", *args: Any) -> None:
        """Notes the denoised latent before another script or the host blends it."""
        if folder and not mba.is_final_blend:
            self.steps.note("denoised", mba.current_latent)
            self.steps.note("sigma", mba.sigma)

    def postprocess(
        self,
        p: Any,
        processed: Any,
        folder: str = "",
        fail_at: int = -1,
        stop_at: int = -1,
        picture: str = "",
        stop: str = "interrupt",
        checksums: bool | None = True,
        *args: Any,
    ) -> None:
        """Writes the job's summary."""
        self.saboteur.disarm()
        if not folder:
            return
        Path(folder).mkdir(parents=True, exist_ok=True)
        seen = self.saboteur
        summary = {"steps": seen.steps, "calls": seen.calls, "passes": seen.passes}
        summary |= describe_model(checksums=checksums is not False)
        (Path(folder) / "run.json").write_text(json.dumps(summary))


def describe_pass(unet: torch.nn.Module, x: torch.Tensor) -> dict[str, Any]:
    """Describes the UNet at the first call of a sampling run.

    Returns:
        ``size``: width and height in pixels; ``channels`` of its input; ``overridden``: how many
        modules' ``forward`` is replaced; ``weights``: a checksum of some parameters.
    """
    checksum = 0
    for name, value in unet.named_parameters():
        if name.endswith("to_k.weight") or name.startswith("input_blocks.0."):
            checksum = parameter_checksum(name, value, checksum)
    return {
        "size": [8 * x.shape[3], 8 * x.shape[2]],
        "channels": x.shape[1],
        "overridden": sum("forward" in vars(module) for module in unet.modules()),
        "weights": f"{checksum:08x}",
    }


def keep_first_pass(p: Any, folder: Path) -> None:
    """Makes the sampler of a first pass write what it returns."""
    inner = p.sampler.sample

    def sample(*args: Any, **kwargs: Any) -> torch.Tensor:
        samples = inner(*args, **kwargs)
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / f"first_{p.iteration}.npy", samples.float().cpu().numpy())
        return samples

    p.sampler.sample = sample


class E2EFolder(scripts.Script):
    """Runs a folder as img2img's Batch tab does, which the API has no way to."""

    def title(self) -> str:
        """Names the script for the API."""
        return "E2E Folder"

    def show(self, is_img2img: bool) -> bool:
        """Shows it in img2img."""
        return is_img2img

    def ui(self, is_img2img: bool) -> list[Any]:
        """Declares the arguments."""
        names = ("From", "To", "Masks")
        return [gr.Textbox(label=name, value="") for name in names]

    def run(self, p: Any, source: str, target: str, masks: str = "") -> Any:
        """Returns the results of all images in the folder."""
        plain = [0, *p.script_args[1:]]
        p.script_args = plain
        return img2img.process_batch(p, source, target, masks, plain)


class E2ETab(scripts.Script):
    """Runs a tab of img2img as its page does, on the request's first init image.

    By the function of WebUI Forge and of those that take the same.
    """

    def title(self) -> str:
        """Names the script for the API."""
        return "E2E Tab"

    def show(self, is_img2img: bool) -> bool:
        """Shows it in img2img."""
        return is_img2img and hasattr(img2img, "img2img_function")

    def ui(self, is_img2img: bool) -> list[Any]:
        """Declares the arguments."""
        return [gr.Textbox(label="Tab", value=""), gr.Textbox(label="Drawn", value="")]

    def run(self, p: Any, tab: str, drawn: str) -> Any:
        """Returns what the page would show, its further images behind the others."""
        picture = p.init_images[0].convert("RGBA")
        drawing = decode_base64_to_image(drawn) if drawn else None
        slots: list[Any] = [None] * 9
        number, places = TABS[tab]
        slots[places] = [picture, drawing][: places.stop - places.start]
        images, info, _, problems = img2img.img2img_function(
            *("", SimpleNamespace(username=None), number, p.prompt, p.negative_prompt, []),
            *slots,
            *(p.mask_blur, 1.0, p.inpainting_fill, p.n_iter, p.batch_size, p.cfg_scale, 3.5, 1.5),
            *(p.denoising_strength, 0, p.height, p.width, 1.0, p.resize_mode),
            *(p.inpaint_full_res, p.inpaint_full_res_padding, p.inpainting_mask_invert),
            *("", "", "", [], False, [], "", "from dir", []),
            *(0, *p.script_args[1:]),
        )
        told = json.loads(info)
        made = processing.Processed(p, images, told["seed"], told["infotexts"][0])
        made.comments = problems
        return made


TABS = {
    "img2img": (0, slice(0, 1)),
    "sketch": (1, slice(1, 3)),
    "inpaint": (2, slice(3, 5)),
    "inpaint sketch": (3, slice(5, 7)),
    "inpaint upload": (4, slice(7, 9)),
}
"""For each tab its number, and where its images stand among the page's."""


def moments(pixels: str) -> dict[str, Any]:
    """Returns the posterior of an image by the parts of the chosen checkpoint's VAE."""
    load_vae()
    rgb = np.load(io.BytesIO(base64.b64decode(pixels))).astype(np.float32)
    network = vae()
    like = next(network.parameters())
    signed = torch.from_numpy(rgb).permute(2, 0, 1).unsqueeze(0).to(like) * 2 - 1
    with torch.no_grad():
        found = network.quant_conv(network.encoder(signed)).float().cpu()
    mean, log_variance = found.chunk(2, 1)
    std = (log_variance.clamp(-30, 20) / 2).exp()
    return {"mean": mean.tolist(), "std": std.tolist(), "factor": vae_factor()}


def held_memory() -> int:
    """Returns what the process holds in memory of its own, in bytes.

    That is without pages of mapped files, and without what was freed and waits to be used again.
    """
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # Only in glibc.
        if trim is not None:
            trim(0)
    memory = psutil.Process().memory_info()
    return int(memory.rss - getattr(memory, "shared", 0))


def add_routes(demo: Any, app: Any) -> None:
    """Adds the probe's addresses to the host's API."""

    @app.get("/e2e/memory")
    def memory() -> int:
        return held_memory()

    @app.get("/e2e/model")
    def model() -> dict[str, Any]:
        with queue_lock:
            return describe_model()

    @app.post("/e2e/moments")
    def posterior(body: dict[str, Any]) -> dict[str, Any]:
        with queue_lock:
            return moments(body["pixels"])


def mend_soft_inpainting(demo: Any, app: Any) -> None:
    """Lets the host's soft inpainting see changes on a computer of few cores, too.

    It splits the pixels among jobs, whose number is -1 on fewer than seven cores; so it looks at
    none, and keeps the whole image.
    """
    for data in scripts.scripts_data:
        if Path(data.path).name == "soft_inpainting.py" and hasattr(data.module, "cpu_count"):
            data.module.cpu_count = lambda: 7
            data.module.Parallel = lambda **_: lambda calls: [f(*a, **k) for f, a, k in calls]


def _note_noisy(params: Any) -> None:
    E2EProbe.steps.note("x", params.x)


def _note_blended(params: Any) -> None:
    E2EProbe.steps.note("blended", params.x)


decode_watch = DecodeWatch()
script_callbacks.on_app_started(add_routes)
script_callbacks.on_app_started(mend_soft_inpainting)
script_callbacks.on_cfg_denoiser(_note_noisy)
script_callbacks.on_cfg_after_cfg(_note_blended)
