"""What images, latents and results of the codec have to be."""

from __future__ import annotations

from torch import Tensor

from ..errors import (
    ArchMismatchError,
    BatchSizeError,
    ImageSizeError,
    OverflowsError,
    SettingsError,
)

VAE_SCALE_FACTOR = 8  # pixels of an image's side to one of its latent's


def check_image(image: Tensor, channels: str) -> None:
    if image.ndim != 4 or image.shape[1] != len(channels) or not len(image):
        raise SettingsError(
            f"Expected {channels} images as b {len(channels)} H W, got {list(image.shape)}.",
            f"Convert the images to {channels}.",
        )
    height, width = image.shape[2:]
    if height % VAE_SCALE_FACTOR or width % VAE_SCALE_FACTOR or not height * width:
        raise ImageSizeError(
            f"Width and height have to be multiples of {VAE_SCALE_FACTOR}, and are "
            f"{width}×{height}.",
            "Choose another width or height.",
        )


def check_pair(pixels: Tensor, latent: Tensor) -> None:
    check_image(pixels, "RGB")
    if latent.ndim != 4 or latent.shape[1] != 4:
        raise ArchMismatchError(
            f"Expected latents as b 4 h w, got {list(latent.shape)}.",
            "Choose an SD1.5 or SDXL checkpoint.",
        )
    if len(pixels) != len(latent):
        raise BatchSizeError(
            f"Expected one latent for each image, got {len(latent)} for {len(pixels)}.",
            "Decode each image with its own latent.",
        )
    height, width = (side * VAE_SCALE_FACTOR for side in latent.shape[2:])
    if tuple(pixels.shape[2:]) != (height, width):
        raise ImageSizeError(
            f"The image is {pixels.shape[3]}×{pixels.shape[2]}, and the latent that of one of "
            f"{width}×{height}.",
            "Use the image as the VAE decoded it, before it was resized or cropped.",
        )


def check_finite(*outputs: Tensor) -> None:
    if not all(bool(output.isfinite().all()) for output in outputs):
        raise OverflowsError(
            "The transparent decoder or encoder overflows: its result holds NaN or infinity.",
            "Let it compute in float32, and look whether the image itself is black.",
        )
