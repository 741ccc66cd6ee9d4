"""Alpha of the WebUI's images: which have it, and what the host keeps of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .hooks import callback_of

_HIDDEN = 254
"""The host hides an infotext in the last bit of a solid image's alpha: 254 or 255."""

BELOW = "layerdiffuse_below"
"""The attribute of an image that says which colour the host is to flatten it on."""

WHOLE = "layerdiffuse_whole"
"""What an image's own information holds of itself, since copies without alpha take that along."""

_GREY = "#808080"


def is_transparent(image: Image.Image) -> bool:
    """Whether an image has alpha that is more than a hidden infotext."""
    if image.mode == "P":
        return "transparency" in image.info or getattr(image.palette, "mode", "") == "RGBA"
    *_, last = bands = image.getbands()
    return last in "Aa" and bool(np.asarray(image.getchannel(len(bands) - 1)).min() < _HIDDEN)


def tell_what_is_lost(p: Any) -> None:
    """Tells the user that a job without a method keeps no alpha of what it begins with."""
    begun = [*(getattr(p, "init_images", None) or ()), getattr(p, "firstpass_image", None)]
    if any(isinstance(image, Image.Image) and is_transparent(image) for image in begun):
        p.comment(
            "The image's transparency is not kept. To keep it, switch LayerDiffuse on and choose a "
            "method that makes a foreground."
        )


def on_grey(image: Image.Image) -> Image.Image:
    """Returns a copy of an init image that the host flattens on grey, not on the user's colour."""
    copy = image.copy()
    setattr(copy, BELOW, _GREY)
    return copy


@callback_of("image")
def save_as_png(params: Any) -> None:
    """Has a transparent image that is about to be saved become a PNG file, whatever the format.

    The host's other formats lose alpha, or some of its digits.
    """
    if params.image is not None and is_transparent(params.image):
        params.filename = str(Path(params.filename).with_suffix(".png"))
