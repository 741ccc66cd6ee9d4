"""An img2img job of the stand-in WebUI: init images, masks, and what is laid over the result."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from modules import images, masking, scripts, shared
from modules.processing import Processing, Sampler, create_random_tensors
from PIL import Image, ImageOps
from torch import Tensor

SIGMAS = (2.0, 1.0, 0.5)


class Denoiser:
    """Euler's steps; where there is a mask, the original is put back into each."""

    def __init__(self, sigmas: tuple[float, ...]) -> None:
        self.sigmas = sigmas
        self.model_wrap_cfg = SimpleNamespace(step=0)

    def sample(self, *_: Any) -> Tensor:
        raise AssertionError("img2img starts from an image")

    def sample_img2img(self, p: Img2ImgJob, init: Tensor, noise: Tensor) -> Tensor:
        x = init + SIGMAS[0] * noise
        sampler, ends = Sampler(), (*self.sigmas, 0.0)[1:]
        sampler.load(p)
        p.began_with.append(init)
        for sigma, end in zip(self.sigmas, ends, strict=True):
            if shared.state.interrupted:
                break
            self.model_wrap_cfg.step += 1
            p.evaluated.append((sigma, x))
            denoised = sampler.denoise(p, x, sigma, p.c, p.uc)
            if p.mask is not None:
                denoised = _blend(p, denoised, init, self, torch.full((len(x),), sigma))
            x = denoised + (x - denoised) * (end / sigma)
        return x


def _blend(p: Img2ImgJob, latent: Tensor, init: Tensor, *step: Any) -> Tensor:
    blended = latent * p.nmask + init * p.mask
    args = scripts.MaskBlendArgs(latent, p.nmask, init, p.mask, blended, *step)
    p.scripts.on_mask_blend(p, args)
    return args.blended_latent


@dataclass
class Img2ImgJob(Processing):
    init_images: list[Image.Image] | None = None
    image_mask: Image.Image | None = None
    latent_mask: Image.Image | None = None
    resize_mode: int = 0
    inpainting_fill: int = 1
    inpaint_full_res: bool = False
    inpainting_mask_invert: int = 0
    mask_round: bool = True
    mask_blur_x: int = 0
    mask_blur_y: int = 0
    mask: Tensor | None = None
    nmask: Tensor | None = None
    paste_to: tuple[int, int, int, int] | None = None
    mask_for_overlay: Image.Image | None = None
    overlay_images: list[Image.Image] | None = None
    given: list[Image.Image] | None = None

    def __post_init__(self) -> None:
        self.evaluated: list[tuple[float, Tensor]] = []
        self.began_with: list[Tensor] = []

    def init(self, all_prompts: list[str], all_seeds: list[int], all_subseeds: list[int]) -> None:
        region, mask = self._cut_mask()
        self.overlay_images = []
        if self.scripts is not None:
            self.scripts.before_process_init_images(
                self, {"crop_region": region, "image_mask": mask}
            )
        self.given = list(self.init_images)
        pixels = [self._prepared(image, region, mask) for image in self.init_images]
        if len(pixels) == 1:
            pixels, self.overlay_images = (
                pixels * self.batch_size,
                self.overlay_images * self.batch_size,
            )
        assert len(pixels) <= self.batch_size, f"bad number of images passed: {len(pixels)}"
        self.batch_size = len(pixels)
        vae = self.sd_model.forge_objects.vae
        encoded = [vae.encode(one.unsqueeze(0)) for one in pixels]
        self.init_latent = vae.first_stage_model.process_in(torch.cat(encoded))
        size = (self.height // 8, self.width // 8)
        if self.resize_mode == 3:
            self.init_latent = torch.nn.functional.interpolate(
                self.init_latent, size=size, mode="bilinear"
            )
        if mask is not None:
            self._set_masks(self.latent_mask or mask, size, all_seeds)

    def _cut_mask(self) -> tuple[Any, Image.Image | None]:
        """Returns the part that is cut out and the mask at the job's size."""
        if self.image_mask is None:
            return None, None
        mask = self.image_mask.convert("L")
        if self.inpainting_mask_invert:
            mask = ImageOps.invert(mask)
        if not self.inpaint_full_res:
            mask = images.resize_image(self.resize_mode, mask, self.width, self.height)
            self.mask_for_overlay = mask.point(lambda value: min(2 * value, 255))
            return None, mask
        self.mask_for_overlay = mask
        left, top, right, bottom = region = mask.getbbox()
        self.paste_to = (left, top, right - left, bottom - top)
        return region, images.resize_image(2, mask.crop(region), self.width, self.height)

    def _prepared(self, image: Image.Image, region: Any, mask: Image.Image | None) -> Tensor:
        image = images.flatten(image, shared.opts.img2img_background_color)
        if region is None and self.resize_mode != 3:
            image = images.resize_image(self.resize_mode, image, self.width, self.height)
        if mask is not None:
            overlay = image.convert("RGBA")
            hole = ImageOps.invert(self.mask_for_overlay)
            overlay.putalpha(hole.resize(image.size))
            self.overlay_images.append(overlay)
        if region is not None:
            image = images.resize_image(2, image.crop(region), self.width, self.height)
        if mask is not None and self.inpainting_fill == 0:
            image = masking.fill(image, self.latent_mask or mask)
        return torch.from_numpy(np.asarray(image).astype(np.float32) / 255)

    def _set_masks(self, mask: Image.Image, size: tuple[int, int], all_seeds: list[int]) -> None:
        small = np.asarray(mask.convert("L").resize(size[::-1])).astype(np.float32) / 255
        if self.mask_round:
            small = np.around(small)
        self.nmask = torch.from_numpy(small).expand(4, -1, -1)
        self.mask = 1 - self.nmask
        if self.inpainting_fill == 2:
            count = len(self.init_latent)
            noise = create_random_tensors(self.init_latent.shape[1:], all_seeds[:count])
            self.init_latent = self.init_latent * self.mask + noise * self.nmask
        if self.inpainting_fill == 3:
            self.init_latent = self.init_latent * self.mask

    def sample(self) -> Tensor:
        self.sampler = Denoiser(SIGMAS if self.denoising_strength else ())
        noise = create_random_tensors(self.init_latent.shape[1:], self.seeds)
        checkpoint = self.sd_model
        checkpoint.forge_objects = checkpoint.forge_objects_after_applying_lora.shallow_copy()
        if self.scripts is not None:
            self.scripts.process_before_every_sampling(
                self, x=self.init_latent, noise=noise, c=self.c, uc=self.uc
            )
        init = self.init_latent
        samples = self.sampler.sample_img2img(self, init, noise)
        return samples if self.mask is None else _blend(self, samples, init)

    def overlaid(self, row: int, image: Image.Image) -> Image.Image:
        overlay = None
        if shared.opts.overlay_inpaint and self.overlay_images and row < len(self.overlay_images):
            overlay = self.overlay_images[row]
        args = scripts.PostProcessMaskOverlayArgs(row, self.mask_for_overlay, overlay)
        if self.scripts is not None:
            self.scripts.postprocess_maskoverlay(self, args)
        if args.overlay_image is None:
            return image
        if self.paste_to is not None:
            left, top, width, height = self.paste_to
            whole = Image.new("RGB", args.overlay_image.size)
            whole.paste(images.resize_image(1, image, width, height), (left, top))
            image = whole
        image = image.convert("RGBA")
        image.alpha_composite(args.overlay_image)
        return image.convert("RGB")
