"""Step 5: the control encoder of the methods with a conditioning image, before they are trained.

A control encoder that starts at random must learn through the whole UNet what an image shows,
and a layer with fine detail comes out blurred. Here each of its signals first learns to tell the
image's latent, read by one linear layer that is thrown away afterwards.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from . import latents
from .data import Scenes, over
from .loop import Plan, Trainer, arguments, set_up
from .sharing_net import CONTROL_WIDTHS, ControlNet

BATCH = 24
SIGNALS = 4
FILE = "control.pt"


class Read(nn.Module):
    """A control encoder and what reads a latent from each of its signals."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = ControlNet(CONTROL_WIDTHS)
        self.heads = nn.ModuleList(nn.Conv2d(CONTROL_WIDTHS[-1], 4, 1) for _ in range(SIGNALS))

    def loss(self, image: Tensor, latent: Tensor) -> Tensor:
        """Returns how far the latents that are read are from the true one.

        Args:
            image: `b 3 H W` in [-1, 1].
            latent: Its latent `b 4 h w`, sampler's scale.
        """
        signals = self.encoder(image).values()
        return torch.stack(
            [
                F.mse_loss(head(signal), F.adaptive_avg_pool2d(latent, signal.shape[2:]))
                for head, signal in zip(self.heads, signals, strict=True)
            ]
        ).sum()


def train(data: Path, plan: Plan, seed: int = 0) -> Path:
    """Trains a control encoder on foregrounds on grey and on backgrounds; returns its file."""
    scenes, rng, net = Scenes.open(data), np.random.default_rng(seed), Read()
    grey, bg = latents.load(data, "grey"), latents.load(data, "bg")
    trainer = Trainer(net, plan, data / "control_training.pt")

    def loss() -> Tensor:
        rows = np.sort(rng.integers(len(scenes), size=BATCH))
        fg, below = scenes.layers(rows)
        half = torch.arange(BATCH) % 2 == 0
        every = half[:, None, None, None]
        image = torch.where(every, over(fg, 0.5), below)
        latent = torch.where(every, grey[rows], bg[rows]).float()
        return net.loss(image * 2 - 1, latent)

    trainer.run(loss)
    torch.save(net.encoder.state_dict(), data / FILE)
    return data / FILE


if __name__ == "__main__":
    parser = arguments(__doc__, minutes=4)
    options = parser.parse_args()
    set_up(0, options.threads)
    print(train(options.data, Plan(options.minutes, rate=3e-3, average=0.99)))
