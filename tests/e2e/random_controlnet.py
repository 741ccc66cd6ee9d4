"""Seeded random ControlNets with the real names, shapes and sizes (0.7 GB; SDXL's 2.5 GB)."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from random_weights import Pool, Scale, Shape, fan_in, model_scale, read_layout, write_tensors

from lib_layerdiffuse.methods import Arch

NAMES = {Arch.SD15: "control_random", Arch.SDXL: "control_xl_random"}
_LAYOUTS = {Arch.SD15: "sd15_checkpoint", Arch.SDXL: "sdxl_checkpoint"}
_UNET, _PREFIX = "model.diffusion_model.", "control_model."
_COPIED = ("time_embed.", "label_emb.", "input_blocks.", "middle_block.")
_HINT_CHANNELS = (3, 16, 16, 32, 32, 96, 96, 256, 320)
_LEVELS = {Arch.SD15: (4, 3, 5), Arch.SDXL: (4, 3, 2)}
"""How many blocks of the UNet's way down have 320, 640 and 1280 channels."""


def shapes(arch: Arch) -> dict[str, Shape]:
    """Returns each tensor's shape by its name."""
    unet = read_layout(_LAYOUTS[arch])
    found = {
        _PREFIX + name.removeprefix(_UNET): shape
        for name, (_, shape) in unet.items()
        if name.startswith(tuple(_UNET + part for part in _COPIED))
    }
    pairs = pairwise(_HINT_CHANNELS)
    convs = {f"input_hint_block.{2 * i}": (out, ins, 3, 3) for i, (ins, out) in enumerate(pairs)}
    levels = [c for c, n in zip((320, 640, 1280), _LEVELS[arch], strict=True) for _ in range(n)]
    convs |= {f"zero_convs.{i}.0": (c, c, 1, 1) for i, c in enumerate(levels)}
    convs["middle_block_out.0"] = (1280, 1280, 1, 1)
    for name, shape in convs.items():
        found[f"{_PREFIX}{name}.weight"] = shape
        found[f"{_PREFIX}{name}.bias"] = shape[:1]
    return found


def write_controlnet(folder: Path, arch: Arch) -> Path:
    """Writes a family's file into a folder, unless it is there; returns it."""
    path = folder / f"{NAMES[arch]}.safetensors"
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: ("F16", shape) for name, shape in shapes(arch).items()}
    write_tensors(path, tensors, _scale, Pool())
    return path


def _scale(name: str, shape: Shape) -> Scale:
    """Keeps what a ControlNet adds to the UNet small beside what is there."""
    std, mean = model_scale(name, shape)
    adds = len(shape) == 4 and shape[2:] == (1, 1) and "transformer" not in name
    return (fan_in(shape, 0.3) if adds else std), mean
