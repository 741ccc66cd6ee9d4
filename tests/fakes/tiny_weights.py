"""A folder of small random weight files that the weight store accepts."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from pathlib import Path

import sharing
import torch
from safetensors.torch import save_file
from tiny_codec import tiny_decoder_weights
from torch import Tensor

from lib_layerdiffuse.methods import DECODERS, Arch, LayerMethod, PatchKind
from lib_layerdiffuse.nets.unet1024 import UNetLayout
from lib_layerdiffuse.released import WeightFile
from lib_layerdiffuse.weights.patches import CONV_IN
from lib_layerdiffuse.weights.store import WeightStore

CHANNELS, RANK = 16, 2
SHALLOW = UNetLayout(widths=(8, 8, 8, 8), blocks=1, attention=(False, False, False, False))
LORA_KEYS = tuple(
    f"diffusion_model.{block}.1.transformer_blocks.0.attn{n}.to_q.weight"
    for block in ("input_blocks.1", "middle_block", "output_blocks.11")
    for n in (1, 2)
)


def patch_file(method: LayerMethod, seed: int = 0) -> dict[str, Tensor]:
    """Returns the tensors of a small SDXL file: LoRAs, and a first convolution if it needs one."""
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator) / math.sqrt(math.prod(shape[1:]))

    tensors = {}
    for key in LORA_KEYS:
        tensors[f"{key}::lora::0"] = noise(CHANNELS, RANK)
        tensors[f"{key}::lora::1"] = noise(RANK, CHANNELS)
    if method.concat_channels:
        tensors[f"{CONV_IN}::diff::0"] = noise(CHANNELS, 4 + method.concat_channels, 3, 3)
    return tensors


def sharing_file(method: LayerMethod, seed: int = 0) -> dict[str, Tensor]:
    """Returns the tensors of a small SD1.5 file."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return sharing.random_file(method.frames, control=method.uses_control)


def method_file(method: LayerMethod, seed: int = 0) -> dict[str, Tensor]:
    """Returns the tensors of a small file for any method."""
    make = patch_file if method.patch is PatchKind.WEIGHTS else sharing_file
    return make(method, seed)


def decoder_file(arch: Arch) -> dict[str, Tensor]:
    """Returns the tensors of a small decoder, another one for each family."""
    return tiny_decoder_weights(list(Arch).index(arch), SHALLOW)


def put(folder: Path, file: WeightFile, tensors: Mapping[str, Tensor]) -> Path:
    """Writes a weight file into a folder and vouches for it, as its owner would."""
    path, sums = folder / file.filename, folder / "SHA256SUMS"
    save_file(dict(tensors), path)
    lines = sums.read_text().splitlines() if sums.exists() else []
    kept = [line for line in lines if not line.endswith(f" {path.name}")]
    kept.append(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}")
    sums.write_text("\n".join(kept) + "\n")
    return path


def put_method(folder: Path, method: LayerMethod, seed: int = 0) -> Path:
    """Writes a method's file and its family's decoder into a folder."""
    put(folder, DECODERS[method.arch], decoder_file(method.arch))
    return put(folder, method.weights, method_file(method, seed))


class CountingStore(WeightStore):
    """A store that may not download and notes what is loaded."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, offline=True)
        self.loaded: list[str] = []

    def load(self, file: WeightFile) -> dict[str, Tensor]:
        self.loaded.append(file.stem)
        return super().load(file)
