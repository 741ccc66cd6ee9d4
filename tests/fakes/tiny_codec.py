"""Seeded networks for the codec's tests: small ones, and shapes of the released files."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from lib_layerdiffuse.nets.offset_encoder import OffsetEncoder
from lib_layerdiffuse.nets.unet1024 import UNet1024, UNetLayout

torch.set_num_threads(1)  # threads only slow these small nets, tenfold on a busy machine

SHAPES = Path(__file__).parents[1] / "e2e" / "shapes"
Shapes = dict[str, tuple[int, ...]]

TINY = UNetLayout(
    widths=(8, 8, 16, 16, 24, 32, 24),
    blocks=2,
    attention=(False, False, False, False, True, True, True),
)
LAYOUTS = {
    "tiny": TINY,
    "one block": UNetLayout((8, 16, 8, 24, 16, 8, 8), 1, (False,) * 4 + (True,) * 3),
    "shallow": UNetLayout((8, 16, 24, 8), 3, (False, True, False, True)),
}
TINY_ENCODER_WIDTHS = (8, 8, 16, 16, 16, 24, 24, 16)


def released_shapes(name: str) -> Shapes:
    """Returns the tensors of the released `decoder` or `encoder` by name."""

    def flatten(node: dict | list, path: str) -> Shapes:
        if isinstance(node, list):
            return {path: tuple(node)}
        return {
            key: shape
            for part, child in node.items()
            for key, shape in flatten(child, f"{path}.{part}" if path else part).items()
        }

    return flatten(json.loads((SHAPES / f"{name}.json").read_text()), "")


def seeded_weights(shapes: Shapes, seed: int = 0) -> dict[str, Tensor]:
    """Returns float32 weights for `shapes` that keep activations near 1 and outputs near 0.5."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, shape in sorted(shapes.items()):
        noise = torch.randn(shape, generator=generator)
        if len(shape) > 1:
            noise /= math.sqrt(math.prod(shape[1:]))
        else:
            noise = 0.1 * noise + ("norm" in name and name.endswith("weight"))
        if name.startswith("conv_out"):
            noise = 0.3 * noise + 0.5 * name.endswith("bias")
        if "to_q" in name or "to_k" in name:
            noise *= 2  # so that attention is not flat
        weights[name] = noise
    return weights


def shapes_of(state_dict: Mapping[str, Tensor]) -> Shapes:
    """Returns the shape of each tensor."""
    return {name: tuple(tensor.shape) for name, tensor in state_dict.items()}


def tiny_decoder_weights(seed: int = 0, layout: UNetLayout = TINY) -> dict[str, Tensor]:
    """Returns the state dict of a small decoder with the real names."""
    with torch.device("meta"):
        net = UNet1024(layout)
    return seeded_weights(shapes_of(net.state_dict()), seed)


def tiny_encoder_weights(seed: int = 0) -> dict[str, Tensor]:
    """Returns the state dict of a small encoder with the real names."""
    with torch.device("meta"):
        net = OffsetEncoder(TINY_ENCODER_WIDTHS)
    return seeded_weights(shapes_of(net.state_dict()), seed)


def tiny_inputs(height: int, width: int, batch: int = 1, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Returns `pixels b 3 H W` and `latent b 4 H/8 W/8`."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.rand(batch, 3, height, width, generator=generator)
    return pixels, 2 * torch.randn(batch, 4, height // 8, width // 8, generator=generator)
