"""Seeded random checkpoints and layer weights with the real names, types, shapes and sizes.

The files load wherever the released ones load, so an end-to-end test needs no download. What
they paint is meaningless, but it is finite, varied, repeatable and moved by every method.
"""

from __future__ import annotations

import json
import math
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

SHAPES = Path(__file__).parent / "shapes"
RECIPE = 2  # raise it when the numbers change: files of another recipe are written again
SEED = 20240227
POOL_SIZE = 16_777_259  # a prime, so that a tensor never lines up with itself when it wraps
NUMPY_TYPES = {"F16": np.float16, "F32": np.float32, "I64": np.int64}

Shape = tuple[int, ...]
Scale = tuple[float, float]  # standard deviation, mean
ScaleOf = Callable[[str, Shape], Scale]


@dataclass(frozen=True)
class WeightFile:
    """One file to write.

    Attributes:
        layout: Name of the JSON file in ``shapes/``.
        scale: Gives the standard deviation and mean of a tensor by its name and shape.
        size: Size in bytes of the released file, where it is public.
        resize: Shapes that differ from the layout's.
    """

    layout: str
    scale: ScaleOf
    size: int | None = None
    resize: dict[str, Shape] = field(default_factory=dict)


def fan_in(shape: Shape, gain: float = 1.0) -> float:
    """Returns the deviation that keeps a layer's output at ``gain`` times its input."""
    return gain / math.sqrt(math.prod(shape[1:]))


def model_scale(name: str, shape: Shape) -> Scale:
    """Scales a tensor of a Stable Diffusion checkpoint."""
    named = (("logit_scale", (0.0, math.log(100.0))), ("position", (0.3, 0.0)))
    named += (("token_embedding", (1.0, 0.0)), ("bias", (0.02, 0.0)))
    for part, scale in named:
        if part in name:
            return scale
    if len(shape) == 1:
        return 0.02, 1.0
    if name == "first_stage_model.decoder.conv_out.weight":
        return fan_in(shape, 0.6), 0.0
    return fan_in(shape, 2.0 if "attn2.to_q" in name or "attn2.to_k" in name else 1.0), 0.0


def lora_scale(name: str, shape: Shape) -> Scale:
    """Scales the two factors of a low-rank SDXL weight."""
    return fan_in(shape, 0.15 if name.endswith("::0") else 1.0), 0.0


def diff_scale(name: str, shape: Shape) -> Scale:
    """Scales a difference that is added to an SDXL parameter."""
    if len(shape) == 1:
        return 0.02, 0.0
    return fan_in(shape, 0.12), 0.0


def sharing_scale(name: str, shape: Shape) -> Scale:
    """Scales a tensor of an SD1.5 attention-sharing file."""
    if len(shape) == 1:
        return model_scale(name, shape)
    if name.startswith("kwargs_encoder"):
        return fan_in(shape, 1.7), 0.0
    small = ("lora" in name and ".up." in name) or "temporal_o" in name or ".0.2." in name
    return fan_in(shape, 0.15 if small else 1.0), 0.0


def encoder_scale(name: str, shape: Shape) -> Scale:
    """Scales a transparent encoder: an offset of a few hundredths."""
    if name == "blocks.16.bias":
        return 0.01, 0.0
    if len(shape) == 1:
        return 0.02, 0.0
    return fan_in(shape, 0.05 if name == "blocks.16.weight" else 1.7), 0.0


def decoder_scale(name: str, shape: Shape) -> Scale:
    """Scales a transparent decoder: colour and alpha spread about one half."""
    if name == "conv_out.bias":
        return 0.0, 0.5
    if name == "conv_out.weight":
        return fan_in(shape, 3.75), 0.0
    return model_scale(name, shape)


def _conv_in(channels: int) -> dict[str, Shape]:
    return {"diffusion_model.input_blocks.0.0.weight::diff::0": (320, channels, 3, 3)}


CHECKPOINTS = {
    "sd15_random.safetensors": WeightFile("sd15_checkpoint", model_scale),
    "sdxl_random.safetensors": WeightFile("sdxl_checkpoint", model_scale),
}

SD15, SDXL = CHECKPOINTS

LAYER_WEIGHTS = {
    "layer_xl_transparent_attn.safetensors": WeightFile("sdxl_attn", lora_scale, 743_352_688),
    "layer_xl_transparent_conv.safetensors": WeightFile(
        "sdxl_all_but_qkv", diff_scale, 3_619_745_776
    ),
    "layer_xl_fg2ble.safetensors": WeightFile("sdxl_convs", diff_scale, 701_981_624),
    "layer_xl_bg2ble.safetensors": WeightFile("sdxl_convs", diff_scale, 701_981_624),
    "layer_xl_fgble2bg.safetensors": WeightFile("sdxl_convs", diff_scale, resize=_conv_in(12)),
    "layer_xl_bgble2fg.safetensors": WeightFile(
        "sdxl_all_but_qkv", diff_scale, resize=_conv_in(12)
    ),
    "vae_transparent_encoder.safetensors": WeightFile("encoder", encoder_scale, 2_365_008),
    "vae_transparent_decoder.safetensors": WeightFile("decoder", decoder_scale, 208_266_320),
    "layer_sd15_transparent_attn.safetensors": WeightFile("sd15_attn", sharing_scale, 350_266_608),
    "layer_sd15_joint.safetensors": WeightFile("sd15_joint", sharing_scale, 554_404_208),
    "layer_sd15_fg2bg.safetensors": WeightFile("sd15_control", sharing_scale, 562_982_312),
    "layer_sd15_bg2fg.safetensors": WeightFile("sd15_control", sharing_scale, 562_982_312),
    "layer_sd15_vae_transparent_encoder.safetensors": WeightFile(
        "encoder", encoder_scale, 2_365_008
    ),
    "layer_sd15_vae_transparent_decoder.safetensors": WeightFile(
        "decoder", decoder_scale, 208_266_320
    ),
}


def read_layout(
    layout: str, resize: dict[str, Shape] | None = None
) -> dict[str, tuple[str, Shape]]:
    """Reads a layout.

    Args:
        layout: Name of the JSON file in ``shapes/``, a tree of name parts; a leaf is the shape,
            with the type in front where it is not F16.
        resize: Shapes that differ from the layout's.

    Returns:
        Type and shape by tensor name, sorted by name.
    """

    def leaves(node: dict, prefix: str) -> Iterator[tuple[str, tuple[str, Shape]]]:
        for key, value in node.items():
            if isinstance(value, dict):
                yield from leaves(value, f"{prefix}{key}.")
            elif value and isinstance(value[0], str):
                yield prefix + key, (value[0], tuple(value[1:]))
            else:
                yield prefix + key, ("F16", tuple(value))

    tensors = dict(leaves(json.loads((SHAPES / f"{layout}.json").read_text()), ""))
    for name, shape in (resize or {}).items():
        tensors[name] = (tensors[name][0], shape)
    return dict(sorted(tensors.items(), key=lambda item: (item[1][0] == "F16", item[0])))


class Pool:
    """Standard normal numbers, drawn once and cut at a seeded place for each tensor."""

    def __init__(self) -> None:
        generator = np.random.Generator(np.random.PCG64(SEED))
        self._values = torch.from_numpy(
            generator.standard_normal(POOL_SIZE, dtype=np.float32),
        )

    def draw(self, key: str, shape: Shape, std: float, mean: float) -> torch.Tensor:
        """Returns float32 normal numbers that depend on ``key`` only."""
        count = math.prod(shape)
        start = np.random.Generator(np.random.PCG64([SEED, zlib.crc32(key.encode())])).integers(
            POOL_SIZE
        )
        values = self._values[start : start + count]
        while values.numel() < count:
            values = torch.cat((values, self._values))[:count]
        return values.mul(std).add_(mean).reshape(shape)


def _adjust(name: str, values: torch.Tensor) -> torch.Tensor:
    """Corrects the few tensors that plain random numbers do not suit."""
    if name == "first_stage_model.quant_conv.weight":  # a posterior like a real one:
        values[:4] *= 4.0  # means of a few units, hardly any noise
        values[4:] *= 0.05
    elif name == "first_stage_model.quant_conv.bias":
        values[4:] = -12.0
    elif name == "conv_out.weight":  # a decoder's: nearly blind to a constant, so centred on 0.5
        values -= 0.9 * values.mean((2, 3), keepdim=True)
    return values


def _array(pool: Pool, file: str, name: str, kind: str, shape: Shape, scale: ScaleOf):
    if kind == "I64":  # position ids are the only integers
        return np.arange(math.prod(shape), dtype=np.int64).reshape(shape)
    values = pool.draw(f"{file}/{name}", shape, *scale(name, shape))
    values = _adjust(name, values)
    return (values.half() if kind == "F16" else values).numpy()


def _header(tensors: dict[str, tuple[str, Shape]]) -> bytes:
    offset = 0
    entries = {}
    for name, (kind, shape) in tensors.items():
        end = offset + math.prod(shape) * np.dtype(NUMPY_TYPES[kind]).itemsize
        entries[name] = {"dtype": kind, "shape": shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def write_file(path: Path, spec: WeightFile, pool: Pool) -> bool:
    """Writes one weight file, unless a whole one of this recipe is there.

    Returns:
        Whether the file was written.
    """
    tensors = read_layout(spec.layout, spec.resize)
    header = _header(tensors)
    size = len(header) + sum(
        math.prod(shape) * np.dtype(NUMPY_TYPES[kind]).itemsize for kind, shape in tensors.values()
    )
    stamp = path.with_suffix(".recipe")
    whole = path.exists() and path.stat().st_size == size
    if whole and stamp.exists() and stamp.read_text() == str(RECIPE):
        return False
    write_tensors(path, tensors, spec.scale, pool)
    stamp.write_text(str(RECIPE))
    return True


def write_tensors(
    path: Path, tensors: dict[str, tuple[str, Shape]], scale: ScaleOf, pool: Pool
) -> None:
    """Writes a file of random tensors, one after the other, so that they need little memory.

    Args:
        path: File to write.
        tensors: Type and shape by name, wider types first.
        scale: Gives a tensor's standard deviation and mean.
        pool: What it is drawn from.
    """
    part = path.with_suffix(".tmp")
    with part.open("wb") as out:
        out.write(_header(tensors))
        for name, (kind, shape) in tensors.items():
            out.write(_array(pool, path.name, name, kind, shape, scale).tobytes())
    os.replace(part, path)
