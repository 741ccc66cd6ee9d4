"""Step 2b: the decoder is trained on, so that one view of an image tells what eight would.

Its convolutions are held symmetric: a turned or mirrored image has the turned or mirrored result.
The encoder stays, and so do the transparent latents and all that is trained on them. What the
decoder sees of each scene, with noise on its latent as in the step before, is computed once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from lib_layerdiffuse.tiny import shapes

from . import symmetric
from .codec import Codec, load, missed, noise_for, write_decoder
from .data import Scenes
from .loop import Plan, Trainer, arguments, set_up

_SEEN = {"pixels": (3, 1), "latent": (4, 8)}
"""Channels of what the decoder sees, and how many pixels of a side are one of its."""


@torch.no_grad()
def look(data: Path, net: Codec, batch: int = 32) -> list[npt.NDArray[np.float16]]:
    """Returns what the decoder sees of all scenes: `n 3 H W`, and `n 4 h w` on SD1.5's VAE scale.

    What was stopped goes on.
    """
    scenes = Scenes.open(data)
    kept = [_opened(data / f"seen_{name}.npy", len(scenes), *of) for name, of in _SEEN.items()]
    done = int(kept[1].any(axis=(1, 2, 3)).sum())  # A latent is not 0.
    for start in range(done, len(scenes), batch):
        rows = np.arange(start, min(start + batch, len(scenes)))
        fg, _ = scenes.layers(rows)
        latent, _ = net.latent(fg)
        latent = latent + noise_for(latent)
        for array, seen in zip(kept, (net.seen(latent), latent), strict=True):
            array[rows] = seen.half().numpy()
    return kept


def _opened(path: Path, count: int, channels: int, scale: int) -> npt.NDArray[np.float16]:
    side = shapes.SIDE // scale
    made: dict[str, Any] = {"dtype": np.float16, "shape": (count, channels, side, side)}
    mode: dict[str, Any] = {"mode": "r+"} if path.exists() else {"mode": "w+", **made}
    return np.lib.format.open_memmap(path, **mode)


def train(data: Path, plan: Plan, batch: int = 8, seed: int = 1) -> nn.Module:
    """Returns the trained decoder of SD1.5's scale."""
    scenes, rng = Scenes.open(data), np.random.default_rng(seed)
    net = load(data)
    seen = look(data, net)
    decoder = net.decoder.requires_grad_(True)
    symmetric.hold(decoder)
    trainer = Trainer(decoder, plan, data / "decoder.pt")

    def loss() -> Tensor:
        rows = np.sort(rng.integers(len(scenes), size=batch))
        fg, _ = scenes.layers(rows)
        return missed(decoder(*(torch.from_numpy(one[rows]).float() for one in seen)), fg)

    trainer.run(loss)
    symmetric.release(decoder)
    return decoder


if __name__ == "__main__":
    options = arguments(__doc__, minutes=65).parse_args()
    set_up(0, options.threads)
    write_decoder(
        train(options.data, Plan(options.minutes, rate=1.5e-3)), options.data / "layer_model"
    )
