"""Step 4: a family's UNet and text encoders, from nothing, on opaque images with captions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lib_layerdiffuse.methods import Arch
from lib_layerdiffuse.tiny import scenes as scene_kinds
from lib_layerdiffuse.tiny import shapes

from . import latents
from . import vae as vae_step
from .data import Scenes
from .loop import Plan, Trainer, arguments, set_up
from .sheets import write_sheet

NO_CAPTION = 0.1
SNR_LIMIT = 5.0
KINDS = {"blended": 0.45, "plain": 0.35, "bg": 0.2}
"""Share of each kind of image."""


class Model(nn.Module):
    """A family's UNet with its text encoders, as a diffusers pipeline puts them together."""

    def __init__(self, arch: Arch, pipeline: Any) -> None:
        super().__init__()
        self.arch, self.pipeline = arch, pipeline
        self.unet = pipeline.unet
        names = ("text_encoder", "text_encoder_2")[: 1 if arch is Arch.SD15 else 2]
        self.text = nn.ModuleList(getattr(pipeline, name) for name in names)
        self.train()

    def tokens(self, captions: Sequence[str]) -> Tensor:
        """Returns the captions' token ids, `b n`."""
        found = self.pipeline.tokenizer(
            list(captions), padding="max_length", truncation=True, return_tensors="pt"
        )
        return found.input_ids

    def context(self, tokens: Tensor) -> dict[str, Any]:
        """Returns the UNet's arguments for texts.

        SDXL's have the sizes and the pooled text too, and an empty text is zeros there.
        """
        if self.arch is Arch.SD15:
            return {"encoder_hidden_states": self.text[0](tokens).last_hidden_state}
        seen = [encoder(tokens, output_hidden_states=True) for encoder in self.text]
        sizes = torch.tensor([[shapes.SIDE, shapes.SIDE, 0, 0, shapes.SIDE, shapes.SIDE]])
        said = (tokens[:, 1] != self.pipeline.tokenizer.eos_token_id).float().unsqueeze(1)
        pooled = seen[1].text_embeds * said
        hidden = torch.cat([found.hidden_states[-2] for found in seen], dim=-1)
        return {
            "encoder_hidden_states": hidden * said.unsqueeze(2),
            "added_cond_kwargs": {
                "text_embeds": pooled,
                "time_ids": sizes.expand(len(tokens), -1),
            },
        }

    def save(self, data: Path) -> None:
        """Writes the diffusers folder, float16, with the family's VAE."""
        self.pipeline.vae = vae_step.load(data, self.arch)
        folder = data / self.arch.name.lower()
        self.pipeline.to(torch.float16).save_pretrained(folder)
        self.pipeline.to(torch.float32)


class Noise:
    """The schedule of SD1.5 and SDXL and the loss of predicting the noise in it."""

    def __init__(self) -> None:
        betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
        self.kept = (1 - betas).cumprod(0)

    def add(self, clean: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Returns the noised latents `b 4 h w` at the timesteps `b`."""
        kept = self.kept[t].view(-1, 1, 1, 1)
        return kept.sqrt() * clean + (1 - kept).sqrt() * noise

    def loss(self, seen: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Returns the squared error, weighted by min(SNR, limit) / SNR.

        Source: Hang et al., "Efficient Diffusion Training via Min-SNR Weighting Strategy", 2023.
        """
        snr = self.kept[t] / (1 - self.kept[t])
        each = (seen.float() - noise).square().mean((1, 2, 3))
        return (each * snr.clamp(max=SNR_LIMIT) / snr).mean() * 2


def train(arch: Arch, data: Path, plan: Plan, batch: int = 32, seed: int = 0) -> Model:
    """Returns the trained model of a family."""
    captions = Scenes.open(data).captions
    images = {name: latents.load(data, name) for name in KINDS}
    model = Model(arch, shapes.pipeline(arch, data / f"tokenizers_{arch.name}"))
    texts = {
        "blended": model.tokens([f"{subject}, {below}" for subject, below in captions]),
        "plain": model.tokens([subject for subject, _ in captions]),
        "bg": model.tokens([below for _, below in captions]),
    }
    empty = model.tokens([""])
    rng, noises = np.random.default_rng(seed), Noise()
    trainer = Trainer(model, plan, data / f"base_{arch.name}.pt")

    def loss() -> Tensor:
        rows = torch.from_numpy(rng.integers(len(captions), size=batch))
        names = rng.choice(list(KINDS), size=batch, p=list(KINDS.values()))
        clean = torch.stack(
            [images[name][row] for name, row in zip(names, rows, strict=True)]
        ).float()
        text = torch.stack([texts[name][row] for name, row in zip(names, rows, strict=True)])
        text = torch.where(torch.rand(batch, 1) < NO_CAPTION, empty, text)
        t, noise = torch.randint(0, 1000, (batch,)), torch.randn_like(clean)
        seen = model.unet(noises.add(clean, noise, t), t, **model.context(text)).sample
        return noises.loss(seen, noise, t)

    model.pipeline.vae = vae_step.load(data, arch)
    trainer.run(loss, lambda name: draw_sheet(model, data / f"base_{arch.name}_{name}.png"))
    model.save(data)
    return model


@torch.no_grad()
def draw_sheet(model: Model, path: Path) -> None:
    """Draws subjects of held-out pairs alone, over backgrounds, and backgrounds."""
    rng = np.random.default_rng(5)
    drawn = [scene_kinds.draw(rng, unseen=i % 3 == 0) for i in range(10)]
    rows = (
        [subject.caption for subject, _ in drawn],
        [f"{subject.caption}, {below}" for subject, below in drawn],
        [below for _, below in drawn],
    )
    model.pipeline.set_progress_bar_config(disable=True)
    images = [
        model.pipeline(
            row,
            num_inference_steps=16,
            guidance_scale=4.0,
            width=shapes.SIDE,
            height=shapes.SIDE,
            generator=torch.Generator().manual_seed(7),
            output_type="pt",
        ).images
        for row in rows
    ]
    write_sheet(path, images)


if __name__ == "__main__":
    parser = arguments(__doc__, minutes=40)
    parser.add_argument("arch", choices=[arch.name for arch in Arch])
    options = parser.parse_args()
    set_up(0, options.threads)
    train(Arch[options.arch], options.data, Plan(options.minutes, save_every=4))
