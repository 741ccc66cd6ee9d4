"""Seeded random user LoRAs in the kohya key format, for both families."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from random_weights import Pool, fan_in, read_layout
from safetensors.torch import save_file

from lib_layerdiffuse.methods import Arch

_UNET = "model.diffusion_model."

LORAS = {Arch.SD15: "random_lora", Arch.SDXL: "random_lora_xl"}
"""What a prompt calls each family's."""


def write_lora(folder: Path, arch: Arch, rank: int = 4, gain: float = 0.5) -> Path:
    """Writes a family's user LoRA into a folder; returns the file.

    Args:
        folder: Where to write; made if missing.
        arch: The family.
        rank: Rank of every factor.
        gain: Size of the change of a layer's output, relative to its input.
    """
    pool, tensors = Pool(), {}
    for name, width_in, width_out in _TARGETS[arch]():
        down, up = (rank, width_in), (width_out, rank)
        tensors[f"{name}.lora_down.weight"] = pool.draw(f"{name}/down", down, fan_in(down), 0.0)
        tensors[f"{name}.lora_up.weight"] = pool.draw(f"{name}/up", up, fan_in(up, gain), 0.0)
        tensors[f"{name}.alpha"] = torch.tensor(float(rank))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{LORAS[arch]}.safetensors"
    save_file({key: value.half().contiguous() for key, value in tensors.items()}, str(path))
    return path


def _sd15_targets() -> Iterator[tuple[str, int, int]]:
    """Yields name, input width and output width of SD1.5's attention and ff layers."""
    places = [
        (f"down_blocks_{i}_attentions_{j}", w)
        for i, w in enumerate((320, 640, 1280))
        for j in range(2)
    ]
    places += [("mid_block_attentions_0", 1280)]
    places += [
        (f"up_blocks_{i}_attentions_{j}", w)
        for i, w in ((1, 1280), (2, 640), (3, 320))
        for j in range(3)
    ]
    for place, width in places:
        prefix = f"lora_unet_{place}_transformer_blocks_0"
        for layer, context in (("attn1", width), ("attn2", 768)):
            yield f"{prefix}_{layer}_to_q", width, width
            yield f"{prefix}_{layer}_to_k", context, width
            yield f"{prefix}_{layer}_to_v", context, width
            yield f"{prefix}_{layer}_to_out_0", width, width
        yield f"{prefix}_ff_net_0_proj", width, 8 * width
        yield f"{prefix}_ff_net_2", 4 * width, width


def _sdxl_targets() -> Iterator[tuple[str, int, int]]:
    """Yields the same of SDXL's attention layers."""
    for name, (_, shape) in read_layout("sdxl_checkpoint").items():
        if name.startswith(_UNET) and ".attn" in name and len(shape) == 2:
            place = name.removeprefix(_UNET).removesuffix(".weight").replace(".", "_")
            yield f"lora_unet_{place}", shape[1], shape[0]


_TARGETS = {Arch.SD15: _sd15_targets, Arch.SDXL: _sdxl_targets}
