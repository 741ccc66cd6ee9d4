"""Which family a checkpoint file is of, read from its header alone."""

from __future__ import annotations

from pathlib import Path

from ..errors import WeightsError
from ..methods import Arch
from .tensor_files import Shapes, read_header

UNET = "model.diffusion_model."
TEXT_WIDTHS = {768: Arch.SD15, 2048: Arch.SDXL}
_CROSS = "attn2.to_k.weight"
_SIZE_LABEL = f"{UNET}label_emb.0.0.weight"


def read_shapes(path: Path) -> Shapes:
    """Returns the shape of each tensor of a safetensors file; only its header is read.

    Raises:
        WeightsError: It is none, or damaged.
    """
    return read_header(path).shapes


def text_width(shapes: Shapes, prefix: str = UNET) -> int:
    """Returns how many channels of text the UNet under a prefix reads; 0 where there is none."""
    keys = (key for key in shapes if key.startswith(prefix) and key.endswith(_CROSS))
    return max((shapes[key][-1] for key in keys if shapes[key]), default=0)


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
