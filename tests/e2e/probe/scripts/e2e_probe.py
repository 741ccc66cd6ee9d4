"""Test-only WebUI extension: records what a run really did and can break a run on purpose.

Arguments of the always-on script "E2E Probe" (all optional):
    0. folder that the record is written to ("" records nothing)
    1. step at which the UNet raises (-1 never)
    2. step at which an interrupt is requested (-1 never)

A step is a distinct timestep that the UNet is called with, counted from 0 over the whole job.
The record is ``latents_<n>.npy`` for each batch, ``pixels_<n>.npy`` where the host decoded by
itself (high-res fix), ``init_<n>.npy`` for what img2img began with, ``steps_<n>.npz`` where an
inpaint mask was blended in, and ``run.json``. Steps hold, for each call of the network, its
``sigma``, noisy latent ``x``, ``denoised`` latent and the ``blended`` one that it became, and the
``map``, which is the mask that the host had made.

The selectable script "E2E Folder" runs img2img's Batch tab; its arguments are the folders that
pictures come from and go to.

``GET /e2e/model`` describes the model that is loaded now, see `describe_model`.
``POST /e2e/moments`` takes a picture as ``pixels``, the base64 of an ``.npy`` file with H W 3 floats
in [0, 1], and answers with the ``mean`` and ``std`` of the loaded VAE's posterior and its
scaling ``factor``.
"""

from __future__ import annotations

import base64
import io
import json
import zlib
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import psutil
import torch
from backend.memory_management import load_models_gpu
from modules import script_callbacks, scripts, shared
from modules.call_queue import queue_lock
from modules.img2img import process_batch


def current_kmodel() -> torch.nn.Module | None:
    """Returns the host's UNet wrapper, or None while no model is loaded."""
    objects = getattr(shared.sd_model, "forge_objects", None)
    return None if objects is None else objects.unet.model


def parameter_checksum(name: str, value: torch.Tensor, seed: int) -> int:
    """Continues an exact checksum over a parameter's name, type, shape and bytes."""
    seed = zlib.crc32(f"{name} {value.dtype} {tuple(value.shape)}".encode(), seed)
    flat = value.detach().cpu().contiguous().flatten()
    return zlib.crc32(flat.view(torch.uint8).numpy(), seed)


def describe_model() -> dict[str, Any]:
    """Describes the loaded UNet.

    Returns:
        ``checksum``: over all named parameters; ``parameters``: how many there are;
        ``overridden``: modules whose ``forward`` was replaced; ``hooks``: number of forward hooks;
        ``rss``: memory of the process in bytes.
    """
    description: dict[str, Any] = {"rss": psutil.Process().memory_info().rss}
    model = current_kmodel()
    if model is None:
        return description
    checksum, count = 0, 0
    for name, value in model.named_parameters():
        checksum, count = parameter_checksum(name, value, checksum), count + 1
    modules = dict(model.named_modules())
    return description | {
        "checkpoint": Path(shared.sd_model.sd_checkpoint_info.filename).name,
        "checksum": f"{checksum:08x}",
        "parameters": count,
        "overridden": [name for name, module in modules.items() if "forward" in vars(module)],
        "hooks": sum(
            len(module._forward_hooks) + len(module._forward_pre_hooks)
            for module in modules.values()
        ),
    }


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
        self._timestep: float | None = None
        self._fail_at = -1
        self._interrupt_at = -1
        self._handle: Any = None

    def arm(self, model: torch.nn.Module, fail_at: int, interrupt_at: int) -> None:
        """Watches a UNet, in place of any that was watched before."""
        self.disarm()
        self._fail_at, self._interrupt_at = fail_at, interrupt_at
        self._handle = model.register_forward_pre_hook(self._before_call)

    def disarm(self) -> None:
        """Stops watching."""
        if self._handle is not None:
            self._handle.remove()
        self._handle = None

    def _before_call(self, module: torch.nn.Module, args: tuple) -> None:
        timestep = float(args[1].flatten()[0])
        self.calls += 1
        if timestep == self._timestep:
            return
        self._timestep = timestep
        step, self.steps = self.steps, self.steps + 1
        if step == self._interrupt_at:
            shared.state.interrupt()
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
            gr.Number(label="Interrupt at step", value=-1, visible=False),
        ]

    def before_process(self, p: Any, *args: Any) -> None:
        """Forgets an earlier job, which may have ended in an exception."""
        self.saboteur.disarm()
        type(self).saboteur = Saboteur()

    def process_before_every_sampling(
        self, p: Any, folder: str = "", fail_at: int = -1, interrupt_at: int = -1, **kwargs: Any
    ) -> None:
        """Watches the UNet that is about to run."""
        self.steps.noted = {}
        if getattr(p, "nmask", None) is not None:
            self.steps.note("map", p.nmask)
        self.saboteur.arm(current_kmodel().diffusion_model, int(fail_at), int(interrupt_at))

    def post_sample(self, p: Any, ps: Any, folder: str = "", *args: Any) -> None:
        """Writes the batch's latents.

        Where the host has decoded already, they are the sampler's last denoised latents.
        """
        if not folder:
            return
        decoded = getattr(ps.samples, "already_decoded", False)
        samples = torch.stack(list(ps.samples)).float().cpu().numpy()
        latents = p.sampler.last_latent.float().cpu().numpy() if decoded else samples
        Path(folder).mkdir(parents=True, exist_ok=True)
        np.save(Path(folder) / f"latents_{p.iteration}.npy", latents)
        if getattr(p, "init_latent", None) is not None:
            init = p.init_latent.float().cpu().numpy()
            np.save(Path(folder) / f"init_{p.iteration}.npy", init)
        steps = self.steps.take()
        if "denoised" in steps:
            np.savez(Path(folder) / f"steps_{p.iteration}.npz", **steps)
        if decoded:
            np.save(Path(folder) / f"pixels_{p.iteration}.npy", samples)

    def on_mask_blend(self, p: Any, mba: Any, folder: str = "", *args: Any) -> None:
        """Notes the denoised latent before another script or the host blends it."""
        if folder and not mba.is_final_blend:
            self.steps.note("denoised", mba.current_latent)
            self.steps.note("sigma", mba.sigma)

    def postprocess(self, p: Any, processed: Any, folder: str = "", *args: Any) -> None:
        """Writes the job's summary."""
        self.saboteur.disarm()
        if not folder:
            return
        Path(folder).mkdir(parents=True, exist_ok=True)
        summary = {"steps": self.saboteur.steps, "calls": self.saboteur.calls} | describe_model()
        (Path(folder) / "run.json").write_text(json.dumps(summary))


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
        return [gr.Textbox(label="From", value=""), gr.Textbox(label="To", value="")]

    def run(self, p: Any, source: str, target: str) -> Any:
        """Returns the results of all pictures in the folder."""
        plain = [0, *p.script_args[1:]]
        p.script_args = plain
        return process_batch(p, source, target, "", plain)


def moments(pixels: str) -> dict[str, Any]:
    """Returns the posterior of a picture by the parts of the loaded VAE."""
    rgb = np.load(io.BytesIO(base64.b64decode(pixels))).astype(np.float32)
    vae = shared.sd_model.forge_objects.vae
    load_models_gpu([vae.patcher])
    network = vae.first_stage_model
    signed = torch.from_numpy(rgb).permute(2, 0, 1).unsqueeze(0).to(vae.vae_dtype) * 2 - 1
    with torch.no_grad():
        found = network.quant_conv(network.encoder(signed.to(vae.device))).float().cpu()
    mean, log_variance = found.chunk(2, 1)
    std = (log_variance.clamp(-30, 20) / 2).exp()
    return {"mean": mean.tolist(), "std": std.tolist(), "factor": network.scaling_factor}


def add_routes(demo: Any, app: Any) -> None:
    """Adds the probe's address to the host's API."""

    @app.get("/e2e/model")
    def model() -> dict[str, Any]:
        with queue_lock:
            return describe_model()

    @app.post("/e2e/moments")
    def posterior(body: dict[str, Any]) -> dict[str, Any]:
        with queue_lock:
            return moments(body["pixels"])


def _note_noisy(params: Any) -> None:
    E2EProbe.steps.note("x", params.x)


def _note_blended(params: Any) -> None:
    E2EProbe.steps.note("blended", params.x)


script_callbacks.on_app_started(add_routes)
script_callbacks.on_cfg_denoiser(_note_noisy)
script_callbacks.on_cfg_after_cfg(_note_blended)
