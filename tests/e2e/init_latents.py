"""Jobs from init images, and the equations of what they begin with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from client import Client
from layers import request
from pictures import glass_ball
from real_forge import Models
from safetensors.torch import load_file

from lib_layerdiffuse.codec.transparent import TransparentEncoder
from lib_layerdiffuse.imaging.images import as_rgba, pad_colours
from lib_layerdiffuse.methods import ENCODERS, Arch

SMALL = {"width": 64, "height": 64}
EXACT = 1e-3
"""Share of their spread by which latents of one image may differ."""


def run(client: Client, method_id: str, record: Path, images: list | None = None, **options):
    """Runs one method on init images, by default the ball at the job's size."""
    images = [glass_ball(64)] if images is None else images
    scripts = request(method_id, **options.pop("settings", {})) | options.pop("others", {})
    more = {**SMALL, "denoising_strength": 0.4, "resize_mode": 0, **options}
    return client.img2img(images, scripts=scripts, record=record, **more)


class Reference:
    """The equations of a transparent image's latent, on the VAE that the server has loaded."""

    def __init__(self, client: Client, models: Models, arch: Arch) -> None:
        self.client = client
        (path,) = (p for p in models.layer_weights if p.name == ENCODERS[arch].filename)
        self.encoder = TransparentEncoder.from_state_dict(load_file(path))

    def latent(self, picture: np.ndarray, strength: float = 300.0) -> np.ndarray:
        """Returns `1 4 h w` of an image, uint8 or float, with or without alpha."""
        rgba = as_rgba(picture)
        alpha = rgba[..., 3:]
        found = self.client.moments(rgba[..., :3] * alpha + 0.5 * (1 - alpha))
        padded = torch.from_numpy(pad_colours(rgba)).permute(2, 0, 1).unsqueeze(0)
        offset = self.encoder.offset(padded).numpy()
        return found["factor"] * (found["mean"] + found["std"] * strength * offset)

    def flat(self, rgb: np.ndarray) -> np.ndarray:
        """Returns the latent's mean of an opaque image of floats."""
        found = self.client.moments(rgb)
        return found["factor"] * found["mean"]


def apart(got: np.ndarray, wanted: np.ndarray) -> float:
    """Returns how far apart latents are, as a share of their spread."""
    assert got.shape == wanted.shape
    return float(np.abs(got - wanted).max() / wanted.std())


def check(got: np.ndarray, wanted: np.ndarray) -> None:
    """Checks latents to `EXACT` of their spread."""
    assert apart(got, wanted) <= EXACT
