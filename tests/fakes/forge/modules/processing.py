"""A job: what the WebUI does from its settings to its saved images, hook by hook."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import torch
import webui_infotext
from PIL import Image
from tiny_checkpoint import call_unet, conditioning, load_for_sampling
from torch import Tensor

from modules import images, scripts, shared

SIGMAS = (10.0, 0.5)


class Sampler:
    """Two steps, in which no image of the batch knows of the others."""

    def sample(self, p: Processing, x: Tensor, c: Tensor, uc: Tensor) -> Tensor:
        self.load(p)
        for sigma in SIGMAS:
            if shared.state.interrupted:
                break
            x = self.denoise(p, x, sigma, c, uc)
        return x

    def sample_img2img(self, *_: Any) -> Tensor:
        raise AssertionError("there is no image to start from")

    def load(self, p: Processing) -> None:
        unet = p.sd_model.forge_objects.unet
        load_for_sampling(unet)
        p.sampled_with.append(unet)

    def denoise(self, p: Processing, x: Tensor, sigma: float, c: Tensor, uc: Tensor) -> Tensor:
        unet = p.sd_model.forge_objects.unet
        uncond, cond = call_unet(unet, x, sigma, [uc, c]).chunk(2)
        x = uncond + 2 * (cond - uncond)
        return x / x.abs().amax((1, 2, 3), keepdim=True)


@dataclass
class StableDiffusionProcessing:
    """The fields that jobs of every kind are made with."""

    sd_model: Any = None
    outpath_samples: str = ""
    prompt: Any = ""
    prompt_for_display: str | None = None
    negative_prompt: str = ""
    styles: list[str] | None = None
    seed: Any = -1
    subseed: Any = -1
    sampler_name: str | None = None
    scheduler: str | None = None
    batch_size: int = 1
    n_iter: int = 1
    width: int = 512
    height: int = 512
    steps: int = 50
    do_not_save_samples: bool = False
    do_not_save_grid: bool = False
    extra_generation_params: dict[str, Any] | None = None
    overlay_images: list[Any] | None = None
    denoising_strength: float | None = None
    override_settings: dict[str, Any] | None = None
    override_settings_restore_afterwards: bool = True
    refiner_checkpoint: str | None = None
    firstpass_image: Any = None
    comments: dict[str, int] | None = None
    sampler: Any = field(default=None, init=False)
    is_api: bool = field(default=False, init=False)


@dataclass
class Processing:
    sd_model: Any
    scripts_value: Any
    script_args: tuple[Any, ...]
    prompt: Any = "a boat"
    negative_prompt: str = "blurry"
    seed: Any = 100
    subseed: Any = -1
    subseed_strength: float = 0.0
    width: int = 64
    height: int = 64
    steps: int = 20
    batch_size: int = 1
    n_iter: int = 1
    outpath_samples: str = ""
    do_not_save_samples: bool = False
    is_api: bool = False
    enable_hr: bool = False
    refiner_checkpoint: str | None = None
    image_mask: Any = None
    override_settings_restore_afterwards: bool = True
    token_merging_ratio: float = 0.0
    override_settings: dict[str, Any] = field(default_factory=dict)
    extra_generation_params: dict[str, Any] = field(default_factory=dict)
    comments: dict[str, int] = field(default_factory=dict)
    extra_result_images: list[Image.Image] = field(default_factory=list)
    subseeds: list[int] = field(default_factory=list)
    sampled_with: list[Any] = field(default_factory=list)
    conditioned_on: list[tuple[list[str], list[str]]] = field(default_factory=list)
    sampler: Any = None
    init_latent: Tensor | None = None
    prompt_for_display: str | None = None
    styles: list[str] = field(default_factory=list)
    sampler_name: str = "DPM++ 2M SDE"
    scheduler: str | None = "Karras"
    do_not_save_grid: bool = False
    overlay_images: list[Any] | None = None
    denoising_strength: float | None = 0.7
    firstpass_image: Any = None
    scripts_setup_complete: bool = False
    user: str | None = None
    closed: bool = False

    @property
    def scripts(self) -> Any:
        return self.scripts_value

    @scripts.setter
    def scripts(self, value: Any) -> None:
        self.scripts_value = value if value else None  # The host asks for its truth, too.

    def comment(self, text: str) -> None:
        self.comments[text] = 1

    def close(self) -> None:
        self.closed = True

    def save_samples(self) -> bool:
        return not self.do_not_save_samples

    def get_token_merging_ratio(self) -> float:
        return self.token_merging_ratio or shared.opts.data.get("token_merging_ratio", 0)

    def setup_prompts(self) -> None:
        count = self.batch_size * self.n_iter
        prompt, seed = self.prompt, self.seed
        if isinstance(prompt, str):
            prompt = ", ".join([prompt, *self.styles])
        self.all_prompts = prompt if isinstance(prompt, list) else [prompt] * count
        self.all_negative_prompts = [self.negative_prompt] * len(self.all_prompts)
        self.main_prompt = self.all_prompts[0]
        self.main_negative_prompt = self.all_negative_prompts[0]
        rows = range(len(self.all_prompts))
        step = 0 if self.subseed_strength else 1
        self.all_seeds = seed if isinstance(seed, list) else [seed + step * i for i in rows]
        self.all_subseeds = [1100 + i for i in rows]

    def init(self, all_prompts: list[str], all_seeds: list[int], all_subseeds: list[int]) -> None:
        self.sampler = Sampler()

    def set_rows(self, n: int) -> None:
        rows = slice(n * self.batch_size, (n + 1) * self.batch_size)
        self.prompts, self.seeds = self.all_prompts[rows], self.all_seeds[rows]
        self.negative_prompts = self.all_negative_prompts[rows]
        self.subseeds = self.all_subseeds[rows]

    def parse_extra_network_prompts(self) -> None:
        pass

    def setup_conds(self) -> None:
        self.conditioned_on.append((list(self.prompts), list(self.negative_prompts)))
        self.c, self.uc = conditioning(self.prompts), conditioning(self.negative_prompts)

    def sample(self) -> Tensor:
        self.sampler = Sampler()
        noise = create_random_tensors((4, self.height // 8, self.width // 8), self.seeds)
        checkpoint = self.sd_model
        checkpoint.forge_objects = checkpoint.forge_objects_after_applying_lora.shallow_copy()
        if self.scripts is not None:
            self.scripts.process_before_every_sampling(
                self, x=noise, noise=noise, c=self.c, uc=self.uc
            )
        return self.sampler.sample(self, noise, self.c, self.uc)

    def overlaid(self, row: int, image: Image.Image) -> Image.Image:
        """Returns an image with what is laid over it before the last hook."""
        return image

    def infotext(self, row: int) -> str:
        negatives = self.negative_prompts
        return create_infotext(
            self, self.prompts, self.seeds, None, index=row, all_negative_prompts=negatives
        )


def create_binary_mask(image: Image.Image, round: bool = True) -> Image.Image:
    """Returns the mask of an image that has been drawn on, by its alpha if it has such."""
    if image.mode == "RGBA" and image.getextrema()[-1] != (255, 255):
        alpha = image.getchannel("A")
        return alpha.point(lambda level: 255 if level > 128 else 0) if round else alpha
    return image.convert("L")


def create_random_tensors(shape: Sequence[int], seeds: Sequence[int]) -> Tensor:
    """Returns each seed's noise."""
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    return torch.stack([torch.randn(tuple(shape), generator=g) for g in generators])


def create_infotext(
    p: Processing,
    all_prompts: list[str],
    all_seeds: list[int],
    all_subseeds: Any,
    *,
    index: int,
    all_negative_prompts: list[str],
) -> str:
    values = {"Steps": len(SIGMAS), "Sampler": p.sampler_name, "Schedule type": p.scheduler}
    values |= {"Seed": all_seeds[index], "Size": f"{p.width}x{p.height}"}
    values |= p.extra_generation_params | {"Version": "f2.0.1"}
    return webui_infotext.write(all_prompts[index], all_negative_prompts[index], values)


class StableDiffusionProcessingTxt2Img(Processing):
    """A job as the host makes it; scripts and their values are put on it afterwards."""

    def __init__(self, **values: Any) -> None:
        assert {f.name for f in fields(StableDiffusionProcessing) if f.init} >= set(values)
        super().__init__(values.pop("sd_model"), None, ())
        values["comments"] = {}
        for name, value in values.items():
            setattr(self, name, value)


@dataclass
class Processed:
    images: list[Any]
    infotexts: list[str]
    all_seeds: list[int]
    extra_images: list[Image.Image]
    extra_generation_params: dict[str, Any]
    comments: str = ""
    all_prompts: list[str] = field(default_factory=list)
    all_negative_prompts: list[str] = field(default_factory=list)
    all_subseeds: list[int] = field(default_factory=list)
    index_of_first_image: int = 0


def process_images(p: Processing) -> Processed:
    if p.scripts is not None:
        p.scripts.before_process(p)
    options = shared.opts.data
    stored = {k: options[k] for k in p.override_settings if k in options}
    try:
        for name, value in p.override_settings.items():
            shared.opts.set(name, value, is_api=True)
        return process_images_inner(p)
    finally:
        if p.override_settings_restore_afterwards:
            options.update(stored)


def process_images_inner(p: Processing) -> Processed:
    p.setup_prompts()
    if p.scripts is not None:
        p.scripts.process(p)
    pictures: list[Any] = []
    infotexts: list[str] = []
    with torch.inference_mode():
        p.init(p.all_prompts, p.all_seeds, p.all_subseeds)
        if shared.state.job_count == -1:
            shared.state.job_count = p.n_iter
        for n in range(p.n_iter):
            p.iteration = n
            shared.state.skipped = False
            if shared.state.interrupted or shared.state.stopping_generation:
                break
            _process_batch(p, n, pictures, infotexts)
    extras = p.extra_result_images
    result = Processed(
        pictures,
        infotexts,
        p.all_seeds,
        extras,
        p.extra_generation_params,
        "".join(f"{comment}\n" for comment in p.comments),
        p.all_prompts,
        p.all_negative_prompts,
        p.all_subseeds,
        _add_grid(p, pictures, infotexts),
    )
    if p.scripts is not None:
        p.scripts.postprocess(p, result)
    return result


def _add_grid(p: Processing, pictures: list[Any], infotexts: list[str]) -> int:
    """Puts a grid before the images where one is wanted; returns the first image's place."""
    if len(pictures) < 2 or p.do_not_save_grid or not shared.opts.return_grid:
        return 0
    pictures.insert(0, Image.new("RGB", (2 * p.width, p.height)))
    infotexts.insert(0, infotexts[0])
    return 1


def _process_batch(p: Processing, n: int, pictures: list[Any], infotexts: list[str]) -> None:
    checkpoint = p.sd_model
    checkpoint.forge_objects = checkpoint.forge_objects_original.shallow_copy()
    p.set_rows(n)
    if p.scripts is not None:
        p.scripts.before_process_batch(p, batch_number=n, prompts=p.prompts, seeds=p.seeds)
    p.parse_extra_network_prompts()
    checkpoint.forge_objects = checkpoint.forge_objects_after_applying_lora.shallow_copy()
    if p.scripts is not None:
        p.scripts.process_batch(p, batch_number=n, prompts=p.prompts, seeds=p.seeds)
    p.setup_conds()
    samples = p.sample()
    if p.scripts is not None:
        sampled = scripts.PostSampleArgs(samples)
        p.scripts.post_sample(p, sampled)
        samples = sampled.samples
    if getattr(samples, "already_decoded", False):
        decoded = torch.stack(samples)
    else:
        vae = checkpoint.forge_objects.vae
        decoded = vae.decode(vae.first_stage_model.process_out(samples))
    pixels = ((decoded + 1) / 2).clamp(0, 1)
    if p.scripts is not None:
        p.scripts.postprocess_batch(p, pixels, batch_number=n)
        p.set_rows(n)
        batch = scripts.PostprocessBatchListArgs(list(pixels))
        p.scripts.postprocess_batch_list(p, batch, batch_number=n)
        pixels = batch.images
    for row, picture in enumerate(pixels):
        p.batch_index = row
        _finish(p, row, picture, pictures, infotexts)


def _finish(p: Processing, row: int, pixels: Tensor, pictures: list, infotexts: list[str]) -> None:
    image_u8 = (255.0 * np.moveaxis(pixels.numpy(), 0, 2)).astype(np.uint8)
    image = Image.fromarray(image_u8)
    for hook in ("postprocess_image", "postprocess_image_after_composite"):
        if hook.endswith("composite"):
            image = p.overlaid(row, image)
        if p.scripts is not None:
            args = scripts.PostprocessImageArgs(image, row + p.iteration * p.batch_size)
            getattr(p.scripts, hook)(p, args)
            image = args.image
    text = p.infotext(row)
    if p.save_samples():
        kind = shared.opts.samples_format
        seed, prompt = p.seeds[row], p.prompts[row]
        images.save_image(image, p.outpath_samples, "", seed, prompt, kind, info=text, p=p)
    infotexts.append(text)
    if shared.opts.enable_pnginfo:
        image.info["parameters"] = text
    pictures.append(image)
