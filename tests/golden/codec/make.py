"""Writes the golden files of this folder; see README.md."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parents[2]), str(HERE.parents[1] / "fakes")]

from codec_oracles import DiffusersUNet1024, decode_by_median, encode_by_hand  # noqa: E402
from tiny_codec import seeded_weights, tiny_inputs  # noqa: E402

LAYOUT = {
    "widths": (8, 8, 8, 8, 16, 8, 8),
    "blocks": 1,
    "attention": (False, False, False, False, True, True, True),
}
ENCODER_CHANNELS = (4, 8, 8, 8, 8, 8, 8, 8, 8, 4)


def half(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"weights.{name}": tensor.half() for name, tensor in weights.items()}


def widen(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix("weights."): tensor.float() for name, tensor in weights.items()}


def decoder() -> dict[str, Tensor]:
    with torch.device("meta"):
        net = DiffusersUNet1024(**LAYOUT)
    shapes = {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}
    weights = half(seeded_weights(shapes, seed=11))
    pixels, latent = (x.half().float() for x in tiny_inputs(64, 128, seed=12))
    rgba = decode_by_median(DiffusersUNet1024.load(widen(weights), **LAYOUT), pixels, latent)
    inputs = {"pixels": pixels.half(), "latent": latent.half()}
    return {**weights, **inputs, "rgba": rgba.contiguous()}


def encoder() -> dict[str, Tensor]:
    shapes = {}
    for n in range(9):
        shapes[f"blocks.{2 * n}.weight"] = (ENCODER_CHANNELS[n + 1], ENCODER_CHANNELS[n], 3, 3)
        shapes[f"blocks.{2 * n}.bias"] = (ENCODER_CHANNELS[n + 1],)
    weights = half(seeded_weights(shapes, seed=13))
    rgba = torch.rand(1, 4, 40, 72, generator=torch.Generator().manual_seed(14))
    return {**weights, "rgba": rgba, "offset": encode_by_hand(widen(weights), rgba)}


if __name__ == "__main__":
    save_file(decoder(), HERE / "decoder.safetensors")
    save_file(encoder(), HERE / "encoder.safetensors")
