"""The way of a transparent image into a latent, and back."""

from __future__ import annotations

from torch import Tensor

from ..codec.transparent import OFFSET_STRENGTH
from ..hosts.diffusers import DiffusersHost
from ..imaging.images import FloatImage, from_u8
from ..methods import Arch
from ..pipeline import Session, decode, encode


def hidden(
    host: DiffusersHost,
    session: Session,
    arch: Arch,
    rgba: FloatImage,
    strength: float = OFFSET_STRENGTH,
) -> tuple[Tensor, Tensor]:
    """Returns what the transparent decoder sees of an image: pixels and vae latent.

    The pixels are `3 H W` in [0, 1], as the VAE decoded them; the latent is `4 H/8 W/8`.

    Args:
        host: The checkpoint.
        session: Where the encoder comes from.
        arch: Its family.
        rgba: `H W 4`, straight; H and W multiples of 8.
        strength: Factor of the encoder's offset.
    """
    latent = encode(session.encoder(arch), host, rgba, strength)
    return host.pixels(latent)[0], host.vae_latent(latent[0])


def round_trip(
    host: DiffusersHost, session: Session, arch: Arch, rgba: FloatImage, strength: float
) -> FloatImage:
    """Returns what is left of a transparent image after the way into a latent and back.

    Args:
        host: As in `hidden`.
        session: As in `hidden`, and where the decoder comes from.
        arch: As in `hidden`.
        rgba: As in `hidden`.
        strength: As in `hidden`.
    """
    seen = hidden(host, session, arch, rgba, strength)
    return from_u8(decode(session.decoder(arch), host, *seen))
