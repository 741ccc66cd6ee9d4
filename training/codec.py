"""Step 2: the transparent encoder and decoder, with the VAE frozen.

The image flattened on grey goes through the VAE's encoder, the offset is added to its latent,
and from the adjusted latent and what the VAE decodes of it the decoder finds colour and alpha.
The offset is kept so small that the VAE still decodes the flattened image. Noise on the latent
stands for what a diffusion model will add to it.

Source: Zhang & Agrawala, arXiv:2402.17113, section 3.1.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from lib_layerdiffuse.codec.transparent import adjusted_latent
from lib_layerdiffuse.methods import DECODERS, ENCODERS, Arch
from lib_layerdiffuse.nets.offset_encoder import OffsetEncoder
from lib_layerdiffuse.nets.unet1024 import UNet1024, UNetLayout
from lib_layerdiffuse.tiny import shapes

from . import vae as vae_step
from .data import Scenes, over
from .export import save
from .loop import Plan, Trainer, arguments, set_up
from .sheets import write_sheet

ENCODER_WIDTHS = (16, 16, 24, 24, 32, 32, 48, 48)
DECODER = UNetLayout(
    widths=(16, 16, 24, 32, 48), blocks=1, attention=(False, False, False, False, True)
)
NOISE = 0.15
"""Largest deviation of the noise, beside latents of deviation 1."""
OFFSET_WEIGHT, IDENTITY_WEIGHT, HIDDEN_COLOUR_WEIGHT = 0.002, 1.0, 0.05


class Codec(nn.Module):
    """Both halves; `gain` brings the untrained encoder's output to the scale of a latent."""

    def __init__(self, vae: nn.Module) -> None:
        super().__init__()
        self.encoder = OffsetEncoder(ENCODER_WIDTHS)
        self.decoder = UNet1024(DECODER)
        self.vae = [vae]  # in a list: not a part of what is trained
        self.gain = 1.0

    def latent(self, fg: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the adjusted latent `b 4 h w` and the offset in it, VAE scale.

        Args:
            fg: `b 4 H W` in [0, 1], R G B A, straight, colour padded.
        """
        with torch.no_grad():
            posterior = self.vae[0].encode(over(fg, 0.5) * 2 - 1).latent_dist
        mean, std = posterior.mean.float(), posterior.std.float()
        latent = adjusted_latent(mean, std, self.gain * self.encoder(fg.roll(1, 1)).float())
        return latent, latent - mean

    def seen(self, latent: Tensor) -> Tensor:
        """Returns what the VAE decodes of a latent, `b 3 H W` in [0, 1]."""
        pixels: Tensor = self.vae[0].decode(latent).sample.float()
        return (pixels / 2 + 0.5).clamp(0, 1)

    def forward(self, fg: Tensor, noise: bool = True) -> tuple[Tensor, Tensor, Tensor]:
        """Returns what the decoder finds `b 4 H W` (A R G B), the VAE's image and the offset."""
        latent, offset = self.latent(fg)
        if noise:
            latent = latent + noise_for(latent)
        pixels = self.seen(latent)
        return self.decoder(pixels, latent).float(), pixels, offset


def noise_for(latent: Tensor) -> Tensor:
    """Returns noise on SD1.5's VAE scale, for each image as strong as another draw says."""
    sigma = NOISE / shapes.SCALING[Arch.SD15] * torch.rand(len(latent), 1, 1, 1)
    return sigma * torch.randn(latent.shape)


def distance(seen: Tensor, truth: Tensor) -> Tensor:
    """Returns the mean absolute error plus twice the mean squared one."""
    error = seen - truth
    return error.abs().mean() + 2 * error.square().mean()


def missed(argb: Tensor, fg: Tensor) -> Tensor:
    """Returns how far what the decoder finds, A R G B, is from the truth, R G B A, in one number.

    Colours count over a random colour, and a little where they are hidden.
    """
    seen = argb.roll(-1, 1)
    below = torch.rand(len(fg), 3, 1, 1)
    return (
        2 * distance(seen[:, 3:], fg[:, 3:])
        + distance(over(seen, below), over(fg, below))
        + HIDDEN_COLOUR_WEIGHT * distance(seen[:, :3], fg[:, :3])
    )


def train(data: Path, plan: Plan, batch: int = 8, seed: int = 0) -> Codec:
    """Returns the trained codec of SD1.5's scale."""
    scenes, rng = Scenes.open(data), np.random.default_rng(seed)
    net = Codec(vae_step.load(data, Arch.SD15))
    scale = 1 / shapes.SCALING[Arch.SD15]
    with torch.no_grad():  # so that the first offsets are some hundredths of a latent's deviation
        fg, _ = scenes.layers(rng.integers(len(scenes), size=32))
        net.gain = float(0.1 * scale / net.latent(fg)[1].std())
    trainer = Trainer(net, plan, data / "codec.pt")

    def draw(count: int) -> Tensor:
        fg, _ = scenes.layers(rng.integers(len(scenes), size=count))
        return fg.flip(-1) if rng.random() < 0.5 else fg

    def loss() -> Tensor:
        fg = draw(batch)
        with torch.autocast("cpu", torch.bfloat16):
            argb, pixels, offset = net(fg)
        return (
            missed(argb, fg)
            + IDENTITY_WEIGHT * distance(pixels, over(fg, 0.5))
            + OFFSET_WEIGHT * (offset / scale).square().mean()
        )

    fixed, _ = scenes.layers(np.arange(12))

    def sheet(name: str) -> None:
        with torch.no_grad():
            argb, pixels, offset = net(fixed, noise=False)
        seen = argb.roll(-1, 1).clamp(0, 1)
        error = (over(seen, 1.0) - over(fixed, 1.0)).square().mean()
        print(
            f"  alpha MAE {(seen - fixed)[:, 3].abs().mean():.4f},",
            f"on white {-10 * error.log10():.2f} dB, offset {offset.std() / scale:.3f}",
            flush=True,
        )
        rows = [over(fixed, 1.0), pixels, over(seen, 1.0), over(seen, 0.0)]
        write_sheet(
            data / f"codec_{name}.png",
            [*rows, *(x[:, 3:].expand(-1, 3, -1, -1) for x in (fixed, seen))],
        )

    trainer.run(loss, sheet)
    return net


def load(data: Path) -> Codec:
    """Returns the frozen codec of SD1.5's scale that `write` left in `layer_model`."""
    net, folder = Codec(vae_step.load(data, Arch.SD15)), data / "layer_model"
    for half, file in ((net.encoder, ENCODERS), (net.decoder, DECODERS)):
        tensors = load_file(folder / file[Arch.SD15].filename)
        half.load_state_dict({key: tensor.float() for key, tensor in tensors.items()})
    return net.requires_grad_(False)


@torch.no_grad()
def write(net: Codec, folder: Path) -> None:
    """Writes each family's encoder and decoder in the released files' formats."""
    encoder = {k: v.clone() for k, v in net.encoder.state_dict().items()}
    for name in ("weight", "bias"):
        encoder[f"blocks.16.{name}"] *= net.gain
    for arch in Arch:
        save(encoder, folder / ENCODERS[arch].filename)
    write_decoder(net.decoder, folder)


@torch.no_grad()
def write_decoder(net: nn.Module, folder: Path) -> None:
    """Writes each family's decoder in the released files' formats."""
    for arch in Arch:
        decoder = {k: v.clone() for k, v in net.state_dict().items()}
        # The latents of the two families differ by a factor alone.
        decoder["latent_conv_in.weight"] *= shapes.SCALING[arch] / shapes.SCALING[Arch.SD15]
        save(decoder, folder / DECODERS[arch].filename)


if __name__ == "__main__":
    options = arguments(__doc__, minutes=18).parse_args()
    set_up(0, options.threads)
    write(train(options.data, Plan(options.minutes, rate=2e-3)), options.data / "layer_model")
