"""A job of the stand-in WebUI with hires fix, as the real one samples, decodes and calls hooks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from modules import processing
from PIL import Image
from tiny_checkpoint import conditioning
from torch import Tensor


class DecodedSamples(list):
    already_decoded = True


class Sampler(processing.Sampler):
    """Also starts from an image; what it returns is not the last thing that it saw."""

    def sample_img2img(self, p: Any, x: Tensor, noise: Tensor, c: Tensor, uc: Tensor) -> Tensor:
        return self.sample(p, x + noise / 2, c, uc) + 0.1


@dataclass
class HiresProcessing(processing.Processing):
    enable_hr: bool = True
    hr_scale: float = 2.0
    hr_prompt: Any = ""
    hr_negative_prompt: Any = ""
    hr_checkpoint_name: str | None = None
    hr_upscaler: str = "Lanczos"
    latent_upscaler: bool = True
    firstpass_image: Image.Image | None = None
    txt2img_upscale: bool = False
    is_hr_pass: bool = False
    hires_token_merging_ratio: float = 0.0
    load_for_hires: Any = None
    renews_objects: bool = True
    second_latents: list[Tensor] = field(default_factory=list)
    hires_conditioned_on: list[tuple[list[str], list[str]]] = field(default_factory=list)

    @property
    def latent_scale_mode(self) -> dict[str, Any] | None:
        return {"mode": "bilinear", "antialias": False} if self.latent_upscaler else None

    @property
    def hr_upscale_to_x(self) -> int:
        return int(self.width * self.hr_scale)

    @property
    def hr_upscale_to_y(self) -> int:
        return int(self.height * self.hr_scale)

    def get_token_merging_ratio(self, for_hr: bool = False) -> float:
        return self.hires_token_merging_ratio if for_hr else self.token_merging_ratio

    def setup_prompts(self) -> None:
        super().setup_prompts()
        self.hr_prompt = self.hr_prompt or self.prompt
        self.hr_negative_prompt = self.hr_negative_prompt or self.negative_prompt
        count = len(self.all_prompts)
        for name in ("hr_prompt", "hr_negative_prompt"):
            value = getattr(self, name)
            setattr(self, f"all_{name}s", value if isinstance(value, list) else [value] * count)

    def parse_extra_network_prompts(self) -> None:
        rows = slice(self.iteration * self.batch_size, (self.iteration + 1) * self.batch_size)
        self.hr_prompts = self.all_hr_prompts[rows]
        self.hr_negative_prompts = self.all_hr_negative_prompts[rows]

    def sample(self) -> Any:
        image = self.firstpass_image
        samples = super().sample() if image is None else self._start_from(image)
        if self.load_for_hires is not None:
            self.sd_model = self.load_for_hires
        return self._second_pass(samples)

    def _start_from(self, image: Image.Image) -> Tensor:
        pixels = torch.from_numpy(np.asarray(image).astype(np.float32) / 255)
        assert pixels.shape[-1] == 3  # The host's VAE takes no more.
        return self._encoded(pixels.unsqueeze(0))

    def _encoded(self, pixels: Tensor) -> Tensor:
        vae = self.sd_model.forge_objects.vae
        return vae.first_stage_model.process_in(vae.encode(pixels))

    def _decoded(self, samples: Tensor) -> Tensor:
        vae = self.sd_model.forge_objects.vae
        return vae.decode(vae.first_stage_model.process_out(samples))

    def _upscaled(self, samples: Tensor) -> Tensor:
        scale = {"scale_factor": self.hr_scale, "mode": "bilinear"}
        if self.latent_upscaler:
            return torch.nn.functional.interpolate(samples, **scale)
        pixels = torch.nn.functional.interpolate((self._decoded(samples) + 1) / 2, **scale)
        return self._encoded(pixels.movedim(1, -1))

    def _second_pass(self, samples: Tensor) -> Any:
        self.is_hr_pass = True
        x = self._upscaled(samples)
        self.sampler = Sampler()
        generators = [torch.Generator().manual_seed(seed) for seed in self.seeds]
        noise = torch.stack([torch.randn(x.shape[1:], generator=one) for one in generators])
        self.hires_conditioned_on.append((self.hr_prompts, self.hr_negative_prompts))
        c, uc = conditioning(self.hr_prompts), conditioning(self.hr_negative_prompts)
        self.scripts.before_hr(self)
        for _ in range(2):  # What the first call patches is thrown away.
            if self.renews_objects:  # Some do so only for a job with a LoRA.
                checkpoint = self.sd_model
                after_loras = checkpoint.forge_objects_after_applying_lora
                checkpoint.forge_objects = after_loras.shallow_copy()
            self.scripts.process_before_every_sampling(self, x=x, noise=noise, c=c, uc=uc)
        samples = self.sampler.sample_img2img(self, x, noise, c, uc)
        self.second_latents.append(samples)
        self.sampler = None
        self.is_hr_pass = False
        return DecodedSamples(self._decoded(samples))
