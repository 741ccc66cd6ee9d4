"""img2img jobs in the stand-in WebUI, and the equations of what they begin with."""

from __future__ import annotations

from importlib import import_module

import numpy as np
import torch
from PIL import Image
from started_webui import WebUI, request

from lib_layerdiffuse.imaging.images import as_rgba, flatten, pad_colours
from lib_layerdiffuse.methods import Arch

SCALE = {Arch.SD15: 0.18215, Arch.SDXL: 0.13025}


def ball(size=(96, 64), seed=0, mode="RGBA"):
    """Returns an image with a soft round alpha and noise under alpha 0."""
    width, height = size
    y, x = np.mgrid[:height, :width]
    alpha = (1.3 - np.hypot(x / width - 0.4, y / height - 0.5) * 4).clip(0, 1) * 255
    rgb = np.random.default_rng(seed).integers(0, 255, (height, width, 3))
    return Image.fromarray(np.dstack([rgb, alpha]).round().astype(np.uint8)).convert(mode)


def rgba_of(image):
    return as_rgba(np.asarray(image.convert("RGBA")))


class Img2Img(WebUI):
    def run_img2img(self, method, settings=None, images=None, **fields):
        kind = import_module("img2img_job").Img2ImgJob
        images = [ball()] if images is None else images
        fields = {"kind": kind, "init_images": images, **fields}
        p = self.job(method, request(method, **settings or {}), **fields)
        return self.run(p), p

    def latent(self, arch, rgba, strength=300.0):
        """Returns what a transparent image's latent must be, by the equations."""

        def tensor(array):
            return torch.from_numpy(np.ascontiguousarray(array)).permute(2, 0, 1).unsqueeze(0)

        vae = self.checkpoint.forge_objects.vae
        mean = vae.encode(tensor(flatten(rgba)).movedim(1, -1))
        encoder = self.script_module.LayerDiffuseScript.session.encoder(arch)
        offset = encoder.offset(tensor(pad_colours(rgba)))
        return SCALE[arch] * (mean + 0.01 * (1 + mean.abs()) * strength * offset)

    def flat(self, arch, rgb):
        """Returns the latent of an opaque image `H W 3`."""
        picture = torch.from_numpy(np.ascontiguousarray(rgb)).unsqueeze(0)
        return SCALE[arch] * self.checkpoint.forge_objects.vae.encode(picture)


def near(got, wanted, atol=1e-5):
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=atol)
