"""The latent of an image whose transparency is still to be found, as a file."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import save
from torch import Tensor

from ..files.whole_files import write_new
from ..methods import DECODERS, Arch

NAME = "latent"
"""What the tensor is called; `layerdiffuse decode` reads it."""


def write_latent(path: Path, vae_latent: Tensor, arch: Arch) -> Path:
    """Writes a latent under the first name that is free, and returns that.

    Args:
        path: Where, with the ending `.safetensors`.
        vae_latent: `4 h w`, VAE's scale.
        arch: Its family; the file names the decoder.

    Raises:
        SettingsError: Nothing can be written there.
    """
    latent = vae_latent.detach().float().cpu().contiguous()
    told = {"decoder": DECODERS[arch].filename}
    return write_new(path, save({NAME: latent}, metadata=told))
