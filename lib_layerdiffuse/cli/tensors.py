"""Tensors from files, read with checks."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from ..errors import SettingsError
from ..files.existing import existing_file
from ..weights.tensor_files import load_tensors


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Returns the tensors of a safetensors file by name, on the CPU.

    Raises:
        SettingsError: There is no such file.
        WeightsError: It is no safetensors file, or damaged.
    """
    return load_tensors(existing_file(path), str(path))


def read_latent(path: Path, name: str) -> Tensor:
    """Returns the tensor `name` of a safetensors file: `4 h w`, float32, finite.

    Raises:
        LayerDiffuseError: As `read_tensors`, or there is no such tensor in it.
    """
    tensors = read_tensors(path)
    tensor = tensors.get(name)
    if tensor is None:
        got = ", ".join(sorted(tensors)[:4]) or "no tensors"
        more = f" and {len(tensors) - 4} more" if len(tensors) > 4 else ""
        raise SettingsError(
            f"{path} holds no tensor `{name}`, but {got}{more}.",
            f"Save the latent under the name `{name}`.",
        )
    if not tensor.is_floating_point() or tensor.ndim != 3 or tensor.shape[0] != 4:
        raise SettingsError(
            f"`{name}` in {path} must be floats [4, h, w], but is "
            f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}.",
            "Save one image's latent, on the VAE's scale and without a batch axis.",
        )
    latent = tensor.float()
    if not latent.isfinite().all():
        raise SettingsError(
            f"`{name}` in {path} holds NaN or infinity.",
            "Make the latent again, in float32.",
        )
    return latent
