"""What of img2img's init images can be refused before sampling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...codec.checks import VAE_SCALE_FACTOR
from ...errors import ImageSizeError, MissingCapabilityError
from ...imaging.images import FloatImage
from ...settings.layer_settings import LayerSettings

LATENT_UPSCALE = 3
"""The host's number of the resize mode that encodes an image at its own size."""

_FILL = 2  # The host's number of "Resize and fill".


def check_init_images(p: Any, settings: LayerSettings, images: Sequence[FloatImage]) -> None:
    """Checks that the images have the sizes, and the job the area, that it can work with.

    Args:
        p: The host's processing object, with the mask that it will use.
        settings: The user's choices.
        images: The init images, `h w 4`.

    Raises:
        ImageSizeError: One is too small, or the mask that a part is cut out by has another size.
        MissingCapabilityError: A chain is to go on with a part.
    """
    if is_cut(p):
        _check_chain(settings)
        check_mask(p, images)
    elif p.resize_mode == LATENT_UPSCALE:
        _check_cells(images)
    elif p.resize_mode == _FILL:
        _check_fits(p, images)


def is_cut(p: Any) -> bool:
    """Whether the host cuts the masked part out of the init images."""
    return p.image_mask is not None and bool(p.inpaint_full_res)


def _check_chain(settings: LayerSettings) -> None:
    """The second step draws at the job's size, not at that of the image that is put together."""
    if settings.chain:
        raise MissingCapabilityError(
            "The other layer cannot be extracted where only the masked part is drawn.",
            'Choose "Whole image", or run the two methods one after the other.',
            field="chain",
        )


def check_mask(p: Any, images: Sequence[FloatImage]) -> None:
    """Checks that the mask that a part is cut out by has the images' size.

    Raises:
        ImageSizeError: It has another.
    """
    for image in images:
        size = (image.shape[1], image.shape[0])
        if p.image_mask.size != size:
            wide, high = p.image_mask.size
            raise ImageSizeError(
                f"The mask has {wide}×{high} pixels, the init image {size[0]}×{size[1]}.",
                'Bring them to one size, or inpaint the "Whole image".',
            )


def _check_cells(images: Sequence[FloatImage]) -> None:
    for image in images:
        height, width = image.shape[:2]
        if min(height, width) < VAE_SCALE_FACTOR:
            raise ImageSizeError(
                f"The init image is too small for this resize mode: {width}×{height}, where at "
                f"least {VAE_SCALE_FACTOR}×{VAE_SCALE_FACTOR} is needed.",
                'Choose another resize mode than "Just resize (latent upscale)".',
            )


def _check_fits(p: Any, images: Sequence[FloatImage]) -> None:
    for image in images:
        height, width = image.shape[:2]
        if min(width * p.height // height, height * p.width // width) < 1:
            raise ImageSizeError(
                f"The init image is too long and narrow: of {width}×{height} less than a pixel "
                f"across would be left in {p.width}×{p.height}.",
                'Choose another resize mode than "Resize and fill".',
            )
