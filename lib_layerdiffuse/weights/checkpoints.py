"""Which family a checkpoint file is of, read from its header alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from ..errors import WeightsError
from ..methods import Arch

UNET = "model.diffusion_model."
TEXT_WIDTHS = {768: Arch.SD15, 2048: Arch.SDXL}
_CROSS = "attn2.to_k.weight"
_LENGTH_BYTES = 8
_LONGEST_HEADER = 100_000_000
_BROKEN = (ValueError, TypeError, LookupError, AttributeError, RecursionError)
_SIZE_LABEL = f"{UNET}label_emb.0.0.weight"

Shapes = Mapping[str, tuple[int, ...]]


def read_shapes(path: Path) -> Shapes:
    """Returns the shape of each tensor of a `.safetensors` file; only its header is read.

    The library's own reader takes seconds for a checkpoint in the versions that WebUIs have.

    Raises:
        WeightsError: It is none, or damaged.

    Source: "Format" in the README of github.com/huggingface/safetensors.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
            if length > _LONGEST_HEADER:
                raise ValueError("its header is too long")
            header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        end = max((int(tensor["data_offsets"][1]) for tensor in header.values()), default=0)
        if path.stat().st_size != _LENGTH_BYTES + length + end:
            raise ValueError("it is longer or shorter than it should be")
        return {key: tuple(map(int, tensor["shape"])) for key, tensor in header.items()}
    except OSError as error:
        raise WeightsError(
            f"{path.name} cannot be read: {error.strerror or error}.", "Allow reading it."
        ) from error
    except _BROKEN as error:
        raise WeightsError(
            f"{path.name} is damaged or no safetensors file.", "Download it again."
        ) from error


def text_width(shapes: Shapes, prefix: str = UNET) -> int:
    """Returns how many channels of text the UNet under a prefix reads; 0 where there is none."""
    keys = (key for key in shapes if key.startswith(prefix) and key.endswith(_CROSS))
    return max((shapes[key][-1] for key in keys), default=0)


def arch_of(shapes: Shapes) -> Arch | None:
    """Returns the family of a single-file checkpoint by its tensors' shapes; None for another."""
    arch = TEXT_WIDTHS.get(text_width(shapes))
    fits = (arch is Arch.SDXL) is (_SIZE_LABEL in shapes)
    return arch if fits else None


class CheckpointReader:
    """Tells families of files; a file that has not changed is read once."""

    def __init__(self) -> None:
        self._known: dict[tuple[Path, int, int], Arch | None] = {}

    def arch(self, path: Path) -> Arch | None:
        """Returns the family of a file; None for one that cannot be read or is of another."""
        if path.suffix.lower() != ".safetensors":
            return None
        try:
            stat = path.stat()
        except OSError:
            return None
        key = (path, stat.st_size, stat.st_mtime_ns)
        if key not in self._known:
            try:
                self._known[key] = arch_of(read_shapes(path))
            except WeightsError:
                self._known[key] = None
        return self._known[key]
