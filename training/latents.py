"""Step 3: the latents of every scene's layers, encoded once.

They are kept as float16 `n 4 h w` on the sampler's scale, which the two families share:

- `bg`, `blended`: the background and the true composite;
- `plain`: the subject on a plain colour of its own, for the base model;
- `grey`: the subject on 0.5 grey, the conditioning image of the layer methods;
- `fg`: the transparent latent, `grey` with the encoder's offset.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from lib_layerdiffuse.codec.transparent import TransparentEncoder, adjusted_latent
from lib_layerdiffuse.methods import ENCODERS, Arch
from lib_layerdiffuse.tiny import shapes

from . import vae as vae_step
from .data import Scenes, over
from .loop import arguments, set_up

OPAQUE, TRANSPARENT = ("bg", "blended", "plain"), ("grey", "fg")
BATCH = 32


def load(data: Path, name: str) -> Tensor:
    """Returns one layer's latents, `n 4 h w` float16, sampler's scale."""
    return torch.from_numpy(np.load(data / f"latents_{name}.npy"))


def plain_colours(count: int) -> Tensor:
    """Returns each scene's plain colour, `n 3 1 1`."""
    colours = np.random.default_rng(3).uniform(size=(count, 3, 1, 1))
    return torch.from_numpy(colours.astype(np.float32))


@torch.no_grad()
def encode(data: Path, names: tuple[str, ...]) -> None:
    """Encodes some of the layers of every scene."""
    scenes, scale = Scenes.open(data), shapes.SCALING[Arch.SD15]
    vae = vae_step.load(data, Arch.SD15)
    encoder = _encoder(data) if "fg" in names else None
    plain = plain_colours(len(scenes))
    side = shapes.SIDE // 8
    made = {name: np.empty((len(scenes), 4, side, side), np.float16) for name in names}
    for start in range(0, len(scenes), BATCH):
        rows = np.arange(start, min(start + BATCH, len(scenes)))
        fg, bg = scenes.layers(rows)
        below = {"blended": bg, "plain": plain[rows], "grey": 0.5}
        posteriors: dict[str, tuple[Tensor, Tensor]] = {}
        for name in names:
            seen = "grey" if name == "fg" else name  # what the VAE sees is the same
            if seen not in posteriors:
                posteriors[seen] = _posterior(vae, bg if seen == "bg" else over(fg, below[seen]))
            mean, std = posteriors[seen]
            if name == "fg" and encoder is not None:
                mean = adjusted_latent(mean, std, encoder.offset(fg))
            made[name][rows] = (mean * scale).half().numpy()
    for name, latents in made.items():
        np.save(data / f"latents_{name}.npy", latents)


def _posterior(vae: nn.Module, image: Tensor) -> tuple[Tensor, Tensor]:
    with torch.autocast("cpu", torch.bfloat16):
        posterior = vae.encode(image * 2 - 1).latent_dist
    return posterior.mean.float(), posterior.std.float()


def _encoder(data: Path) -> TransparentEncoder:
    from safetensors.torch import load_file

    file = data / "layer_model" / ENCODERS[Arch.SD15].filename
    return TransparentEncoder.from_state_dict(load_file(file))


if __name__ == "__main__":
    parser = arguments(__doc__)
    parser.add_argument("layers", nargs="+", choices=(*OPAQUE, *TRANSPARENT))
    options = parser.parse_args()
    set_up(0, options.threads)
    encode(options.data, tuple(options.layers))
