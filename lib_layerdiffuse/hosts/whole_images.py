"""Whether a UNet is called for the whole image, as a given one needs it."""

from __future__ import annotations

from torch import Tensor

from ..errors import HostError


def check_whole(x: Tensor, concat: Tensor) -> None:
    """Checks that the UNet's input has the size of what is put beside it.

    Args:
        x: The input, `b c h w`.
        concat: A given image's latents, `1 c h w`.

    Raises:
        HostError: The call is for a part of the image.
    """
    if x.shape[2:] != concat.shape[2:]:
        (height, width), (wanted_height, wanted_width) = x.shape[2:], concat.shape[2:]
        raise HostError(
            f"An extension samples parts of the image: the UNet was called for {width}×{height} "
            f"latent pixels instead of all {wanted_width}×{wanted_height}.",
            "Turn off extensions that sample tiles or regions one by one.",
        )
