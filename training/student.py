"""Optional: a decoder that gives in one view what the family's decoder gives in eight.

The student is the same network, and starts from the teacher's weights. What the teacher makes of
scenes, in eight views and float32, is computed once. Turned or mirrored, an image has the result
turned or mirrored, since the eight views are all that there are of both: so each is eight examples.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from lib_layerdiffuse import tiny
from lib_layerdiffuse.codec.views import VIEWS, turn
from lib_layerdiffuse.methods import Arch
from lib_layerdiffuse.pipeline import Session
from lib_layerdiffuse.tiny import shapes

from . import codec
from .data import Scenes
from .loop import Plan, Trainer, arguments, freeze, set_up

BATCH = 4
HIDDEN_COLOUR_WEIGHT = 0.05
_LESSONS = {"pixels": (3, 1), "latent": (4, 8), "argb": (4, 1)}
"""Channels of what is kept, and how many pixels of a side are one of its."""


@torch.no_grad()
def teach(data: Path, count: int, batch: int = 32) -> None:
    """Writes what the teacher sees, and what it makes of it, of the first scenes.

    They are kept as float16: `n 3 H W`, `n 4 h w` on SD1.5's VAE scale and `n 4 H W`, A R G B.
    What was stopped goes on.
    """
    scenes, session = Scenes.open(data), Session(tiny.layer_store())
    net = codec.Codec(AutoencoderKL.from_pretrained(tiny.checkpoint(Arch.SD15) / "vae").float())
    net.encoder = session.encoder(Arch.SD15).net
    freeze([net, net.vae[0]])
    kept = _opened(data, count)
    largest = codec.NOISE / shapes.SCALING[Arch.SD15]
    for start in range(_done(kept), len(kept[0]), batch):
        rows = np.arange(start, min(start + batch, len(kept[0])))
        fg, _ = scenes.layers(rows)
        draws = torch.Generator().manual_seed(start)
        sigma = largest * torch.rand(len(fg), 1, 1, 1, generator=draws)
        latent, _ = net.latent(fg)
        latent = (latent + sigma * torch.randn(latent.shape, generator=draws)).half().float()
        pixels = (net.vae[0].decode(latent).sample / 2 + 0.5).clamp(0, 1).half().float()
        argb = session.decoder(Arch.SD15).decode(pixels, latent).roll(1, 1)
        for array, made in zip(kept, (pixels, latent, argb), strict=True):
            array[rows] = made.half().numpy()


def _opened(data: Path, count: int) -> list[npt.NDArray[np.float16]]:
    """Returns the arrays that `teach` writes, of so many scenes, made where they are not there."""
    arrays = []
    for name, (channels, scale) in _LESSONS.items():
        path, side = data / f"student_{name}.npy", shapes.SIDE // scale
        made: dict[str, Any] = {"dtype": np.float16, "shape": (count, channels, side, side)}
        mode: dict[str, Any] = {"mode": "r+"} if path.exists() else {"mode": "w+", **made}
        arrays.append(np.lib.format.open_memmap(path, **mode))
    return arrays


def _done(kept: list[npt.NDArray[np.float16]]) -> int:
    """Returns of how many scenes all is there: a latent is not 0."""
    return int(kept[1].any(axis=(1, 2, 3)).sum())


def missed(seen: Tensor, target: Tensor) -> Tensor:
    """Returns how far results are from the teacher's, in one number.

    Args:
        seen: `b 4 H W`, A R G B, straight, not clipped.
        target: The same, clipped: where it is 0 or 1, nothing is wrong beyond.
    """
    least = torch.where(target <= 0, 0.0, -math.inf)
    most = torch.where(target >= 1, 1.0, math.inf)
    seen = seen.maximum(least).minimum(most)
    return (
        2 * codec.distance(seen[:, :1], target[:, :1])
        + codec.distance(seen[:, :1] * seen[:, 1:], target[:, :1] * target[:, 1:])
        + HIDDEN_COLOUR_WEIGHT * codec.distance(seen[:, 1:], target[:, 1:])
    )


def train(data: Path, plan: Plan, batch: int = BATCH, seed: int = 0) -> nn.Module:
    """Returns the trained student of SD1.5's scale, from the lessons that `teach` wrote."""
    lessons = [np.load(data / f"student_{name}.npy", mmap_mode="r") for name in _LESSONS]
    rng = np.random.default_rng(seed)
    net = Session(tiny.layer_store()).decoder(Arch.SD15).net.requires_grad_(True)
    trainer = Trainer(net, plan, data / "student.pt")

    def loss() -> Tensor:
        rows = np.sort(rng.integers(len(lessons[0]), size=batch))
        view = VIEWS[rng.integers(len(VIEWS))]
        pixels, latent, argb = (
            turn(torch.from_numpy(lesson[rows]).float(), *view) for lesson in lessons
        )
        return missed(net(pixels, latent), argb)

    trainer.run(loss)
    return net


if __name__ == "__main__":
    parser = arguments(__doc__, minutes=28)
    parser.add_argument("--scenes", type=int, default=2500, help="that the teacher sees")
    options = parser.parse_args()
    set_up(0, options.threads)
    teach(options.data, options.scenes)
    trained = train(options.data, Plan(options.minutes, rate=3e-4))
    codec.write_decoder(trained, options.data / "student")
