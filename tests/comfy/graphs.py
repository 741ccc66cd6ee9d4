"""Graphs for ComfyUI's `/prompt`: the jobs of the end-to-end tests, node by node."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from client import DEFAULTS
from layers import SCALES
from random_weights import SD15, SDXL

from lib_layerdiffuse.methods import Arch, Layer, LayerMethod

Source = tuple[str, int]
"""A node's id and the number of one of its outputs."""
CHOICES = {"weight": 1.0, "stop_at": 1.0, "resize_mode": "Crop and Resize"}
SAVED = "saved"
"""The id of the node that saves the latent."""
STEPS = 2
CHECKPOINT = {Arch.SD15: SD15, Arch.SDXL: SDXL}
_FIRST_SIGMA = 14.614642


def drawn_noise(arch: Arch, rows: int, side: int = 8) -> np.ndarray:
    """Returns a WebUI's noise as a latent on the VAE's scale, one seed after the other."""
    seeds = range(DEFAULTS["seed"], DEFAULTS["seed"] + rows)
    drawn = [
        torch.randn(4, side, side, generator=torch.Generator().manual_seed(seed)) for seed in seeds
    ]
    return (torch.stack(drawn) * _FIRST_SIGMA / SCALES[arch]).numpy()


def apart(found: np.ndarray, wanted: np.ndarray) -> float:
    """Returns the largest difference, as a part of the largest number."""
    assert np.isfinite(found).all()
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


class Graph:
    """Nodes of one prompt, the checkpoint and its two prompts first.

    Args:
        checkpoint: The file's name.
        noise: The file of the latent that is sampled as it is, with its noise in it.
    """

    def __init__(self, checkpoint: str, noise: str) -> None:
        self.nodes: dict[str, dict[str, Any]] = {}
        self.loaded = self.add("CheckpointLoaderSimple", ckpt_name=checkpoint)
        self.model: Source = (self.loaded, 0)
        self.vae: Source = (self.loaded, 2)
        self.positive = self.prompt(DEFAULTS["prompt"])
        self.negative = self.prompt(DEFAULTS["negative_prompt"])
        self.noise: Source = (self.add("LoadLatent", latent=noise), 0)

    def add(self, kind: str, name: str = "", /, **given: Any) -> str:
        """Returns the id of a new node; inputs that are `(id, output)` are connected."""
        key = name or str(len(self.nodes) + 1)
        inputs = {k: list(v) if isinstance(v, tuple) else v for k, v in given.items()}
        self.nodes[key] = {"class_type": kind, "inputs": inputs}
        return key

    def prompt(self, text: str) -> Source:
        """Returns a text's conditioning."""
        return self.add("CLIPTextEncode", text=text, clip=(self.loaded, 1)), 0

    def lora(self, name: str, of: Source) -> Source:
        """Returns a MODEL with a user's LoRA."""
        return self.add("LoraLoaderModelOnly", model=of, lora_name=name, strength_model=1.0), 0

    def images(self, method: LayerMethod) -> dict[str, Source]:
        """Adds the images that a method starts from; returns the inputs that they go to."""
        found: dict[str, Source] = {}
        for layer in method.inputs:
            loaded = self.add("LoadImage", image=f"{layer.value}.png")
            found[layer.value] = loaded, 0
            if layer is Layer.FG:
                found["fg_mask"] = loaded, 1
        return found

    def method(self, method: LayerMethod, images: Mapping[str, Source], **more: Any) -> str:
        """Returns the node of a method, whose MODEL the sampler takes from then on."""
        given = {"model": self.model, "vae": self.vae, "latent": self.noise, **images}
        node = self.add("LayerDiffuseMethod", method=method.label, **CHOICES | given | more)
        self.model = node, 0
        return node

    def sample(self, model: Source | None = None, latent: Source | None = None, **more: Any) -> str:
        """Returns the node of a sampler that adds no noise; others' choices in `more`."""
        given = {
            "noise_seed": 0,
            "steps": STEPS,
            "cfg": float(DEFAULTS["cfg_scale"]),
            "sampler_name": "euler",
            "scheduler": "normal",
            "start_at_step": 0,
            "end_at_step": 10000,
            "return_with_leftover_noise": "disable",
        }
        prompts = {"positive": self.positive, "negative": self.negative}
        of = {"model": model or self.model, "latent_image": latent or self.noise}
        return self.add("KSamplerAdvanced", add_noise="disable", **given | prompts | of | more)

    def save(self, sampled: str) -> dict[str, dict[str, Any]]:
        """Returns the whole prompt, which saves a sampler's latent as `SAVED`."""
        self.add("SaveLatent", SAVED, samples=(sampled, 0), filename_prefix="latents")
        return self.nodes
