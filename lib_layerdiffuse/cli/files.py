"""Pictures and tensors from files, read with checks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ..errors import SettingsError
from ..imaging.images import Picture, PictureU8, as_rgba

_STDERR = 2


def read_rgba(path: Path) -> Picture:
    """Returns a picture file as straight RGBA `h w 4`, float32 in [0, 1]; opaque without alpha.

    8-bit and 16-bit grey, RGB and RGBA are read, with or without a palette.

    Raises:
        SettingsError: There is no such file, or it is no whole picture.
    """
    try:
        data = np.frombuffer(_existing(path).read_bytes(), np.uint8)
    except OSError as error:
        raise _unreadable(path, error) from error
    pixels = _decoded(data) if data.size else None
    if pixels is None:
        raise SettingsError(
            f"Expected {path} to be a picture, got {data.size} bytes that are none.",
            "Give a whole PNG file.",
        )
    if pixels.dtype == np.uint16:
        pixels = pixels.astype(np.float32) / np.float32(65535)
    if pixels.ndim == 3 and pixels.shape[2] >= 3:
        pixels = pixels[..., [2, 1, 0, *range(3, pixels.shape[2])]]  # OpenCV has B G R (A)
    return as_rgba(pixels)


def _decoded(data: PictureU8) -> npt.NDArray[Any] | None:
    """Returns the picture in OpenCV's order, or None if the bytes are no whole picture."""
    with _hushed():
        try:
            # OpenCV is typed as if it always returned a picture.
            pixels: npt.NDArray[Any] | None = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
        except cv2.error:
            return None
    return pixels


@contextmanager
def _hushed() -> Iterator[None]:
    """Keeps C libraries from writing to the console: the caller says what is wrong."""
    console = os.dup(_STDERR)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), _STDERR)
        yield
    finally:
        os.dup2(console, _STDERR)
        os.close(console)


def png_bytes(rgba_u8: PictureU8) -> bytes:
    """Returns straight RGBA `h w 4` in 0..255 as the bytes of a PNG file."""
    _, data = cv2.imencode(".png", cv2.cvtColor(rgba_u8, cv2.COLOR_RGBA2BGRA))
    return data.tobytes()


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Returns the tensors of a safetensors file by name, on the CPU.

    Raises:
        SettingsError: There is no such file, or it is no safetensors file.
    """
    try:
        return load_file(_existing(path), device="cpu")
    except OSError as error:
        raise _unreadable(path, error) from error
    except (SafetensorError, ValueError) as error:
        raise SettingsError(
            f"Expected {path} to be a safetensors file, got: {error}.",
            "Give a whole .safetensors file.",
        ) from error


def read_latent(path: Path, name: str) -> Tensor:
    """Returns the tensor `name` of a safetensors file: `4 h w`, float32, finite.

    Raises:
        SettingsError: As `read_tensors`, or there is no such tensor in it.
    """
    tensors = read_tensors(path)
    tensor = tensors.get(name)
    if tensor is None:
        got = ", ".join(sorted(tensors)[:4]) or "no tensors"
        more = f" and {len(tensors) - 4} more" if len(tensors) > 4 else ""
        raise SettingsError(
            f"Expected a tensor `{name}` in {path}, got {got}{more}.",
            f"Save the latent under the name `{name}`.",
        )
    if not tensor.is_floating_point() or tensor.ndim != 3 or tensor.shape[0] != 4:
        raise SettingsError(
            f"Expected `{name}` in {path} as floats [4, h, w], "
            f"got {str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}.",
            "Save one picture's latent, on the VAE's scale and without a batch axis.",
        )
    latent = tensor.float()
    if not latent.isfinite().all():
        raise SettingsError(
            f"Expected finite numbers in `{name}` of {path}, got NaN or infinity.",
            "Make the latent again, in float32.",
        )
    return latent


def _existing(path: Path) -> Path:
    if not path.is_file():
        other = "a folder" if path.is_dir() else "no ordinary file"
        got = other if path.exists() else "nothing there"
        raise SettingsError(f"Expected a file at {path}, got {got}.", "Check the name.")
    return path


def _unreadable(path: Path, error: OSError) -> SettingsError:
    return SettingsError(
        f"Expected to read {path}, got: {error.strerror or error}.", "Allow reading it."
    )
