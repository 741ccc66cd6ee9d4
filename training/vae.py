"""Step 1: the VAE, on opaque images: composites, backgrounds and subjects on plain colours.

The VAE of the two families is one: its latents are normalised at the end, and scaled by each
family's factor, which the convolutions around the latent absorb exactly. With `--decoder` its
decoder alone is trained on: the latents, and all that was trained on them, stay valid.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lib_layerdiffuse.methods import Arch
from lib_layerdiffuse.tiny import shapes

from .data import Scenes, over
from .loop import Plan, Trainer, arguments, rank, same_everywhere, set_up
from .sheets import write_sheet

CROP = 64
KL_WEIGHT = 1e-5
FIRST_LOGVAR = -4.0
BATCH = 8


def images(scenes: Scenes, batch: int, rng: np.random.Generator) -> Tensor:
    """Returns random opaque images `b 3 H W` in [0, 1]."""
    indices = np.sort(rng.integers(len(scenes), size=batch))
    fg, bg = scenes.layers(indices)
    grey = torch.full((batch, 3, 1, 1), 0.5)
    plain = torch.from_numpy(rng.uniform(size=(batch, 3, 1, 1)).astype(np.float32))
    kind = torch.from_numpy(rng.uniform(size=(batch, 1, 1, 1)))
    below = torch.where(kind < 0.4, bg, torch.where(kind < 0.8, grey, plain))
    return torch.where(kind < 0.92, over(fg, below), bg)


def crops(x: Tensor, rng: np.random.Generator) -> Tensor:
    """Returns a random square of each image, half of them mirrored."""
    side = x.shape[-1] - CROP
    made = []
    for image in x:
        top, left = (int(n) // 4 * 4 for n in rng.integers(side + 1, size=2))
        crop = image[:, top : top + CROP, left : left + CROP]
        made.append(crop.flip(-1) if rng.random() < 0.5 else crop)
    return torch.stack(made)


def reconstruction(seen: Tensor, truth: Tensor) -> Tensor:
    """Returns the loss of a decoded image: of its values and of its differences."""
    error = seen - truth
    across, down = error.diff(dim=-1), error.diff(dim=-2)
    return error.abs().mean() + 4 * error.square().mean() + across.abs().mean() + down.abs().mean()


def train(data: Path, plan: Plan, decoder_alone: bool = False, seed: int = 0) -> nn.Module:
    """Returns the trained VAE, its latents not yet normalised."""
    scenes, rng = Scenes.open(data), np.random.default_rng((seed, rank()))
    if decoder_alone:
        vae = load(data, Arch.SD15)
        vae.decoder.requires_grad_(True)
        vae.post_quant_conv.requires_grad_(True)
    else:
        vae = shapes.vae(Arch.SD15)
        with torch.no_grad():
            vae.quant_conv.bias[4:] = FIRST_LOGVAR
    same_everywhere(vae)
    trainer = Trainer(vae, plan, data / ("vae_decoder.pt" if decoder_alone else "vae.pt"))

    def loss() -> Tensor:
        whole = trainer.progress > 0.85
        truth = images(scenes, BATCH // 2 if whole else BATCH, rng)
        truth = truth if whole else crops(truth, rng)
        with torch.autocast("cpu", torch.bfloat16):
            with torch.set_grad_enabled(not decoder_alone):
                posterior = vae.encode(truth * 2 - 1).latent_dist
            seen = vae.decode(posterior.sample()).sample
        if decoder_alone:
            return reconstruction(seen.float() / 2 + 0.5, truth)
        mean, logvar = posterior.mean.float(), posterior.logvar.float()
        kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
        return reconstruction(seen.float() / 2 + 0.5, truth) + KL_WEIGHT * kl

    fixed = images(scenes, 12, np.random.default_rng(1))

    def sheet(name: str) -> None:
        with torch.no_grad():
            posterior = vae.encode(fixed * 2 - 1).latent_dist
            seen = (vae.decode(posterior.mean).sample / 2 + 0.5).clamp(0, 1)
        error = F.mse_loss(seen, fixed)
        print(f"  PSNR {-10 * error.log10():.2f} dB, std {posterior.std.mean():.4f}", flush=True)
        write_sheet(data / f"vae_{name}.png", [fixed, seen])

    trainer.run(loss, sheet)
    return vae


@torch.no_grad()
def normalised(vae: nn.Module, data: Path, arch: Arch, count: int = 512) -> nn.Module:
    """Returns a copy whose latents, times the family's factor, have mean 0 and deviation 1.

    What the VAE decodes stays the same but for rounding.
    """
    scenes, rng = Scenes.open(data), np.random.default_rng(2)
    means = [
        vae.encode(images(scenes, 32, rng) * 2 - 1).latent_dist.mean for _ in range(count // 32)
    ]
    latents = torch.cat(means).transpose(0, 1).flatten(1)
    centre, scale = latents.mean(1), 1 / (latents.std(1) * shapes.SCALING[arch])
    made = shapes.vae(arch)
    made.load_state_dict(vae.state_dict())
    before, after = made.quant_conv, made.post_quant_conv
    before.weight[:4] *= scale[:, None, None, None]
    before.bias[:4] = (before.bias[:4] - centre) * scale
    before.bias[4:] += 2 * scale.log()
    after.bias += after.weight[:, :, 0, 0] @ centre
    after.weight /= scale[None, :, None, None]
    return made.requires_grad_(False).eval()


def load(data: Path, arch: Arch) -> nn.Module:
    """Returns a family's normalised VAE, as the last step of this program left it."""
    vae = shapes.vae(arch)
    vae.load_state_dict(torch.load(data / f"vae_{arch.name}.pt", weights_only=True))
    return vae.requires_grad_(False).eval()


if __name__ == "__main__":
    parser = arguments(__doc__, minutes=20)
    parser.add_argument("--decoder", action="store_true", help="train on the decoder alone")
    options = parser.parse_args()
    set_up(0, options.threads)
    plan = Plan(options.minutes, rate=2e-3, average=0.995)
    trained = train(options.data, plan, options.decoder)
    for family in Arch if rank() == 0 else ():
        made = normalised(trained, options.data, family)
        torch.save(made.state_dict(), options.data / f"vae_{family.name}.pt")
