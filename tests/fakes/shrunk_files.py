"""Small random checkpoints and layer files with the real ones' tensors, at 1/32 the width.

The names come from lists of the published files (`tests/e2e/shapes`), so that whatever reads these
reads those. Of the blocks that only repeat, in the transformers, the first few are there.
"""

from __future__ import annotations

import json
import math
from functools import cache
from itertools import pairwise

import torch
from tiny_codec import SHAPES
from torch import Tensor

from lib_layerdiffuse.methods import Arch, LayerMethod, PatchKind
from lib_layerdiffuse.weights.patches import CONV_IN

SHRINK = 32
DEPTHS = {"transformer_blocks": 2, "layers": 3, "resblocks": 3}
UNET = "model.diffusion_model."
_CHECKPOINTS = {Arch.SD15: "sd15_checkpoint", Arch.SDXL: "sdxl_checkpoint"}
_LAYOUTS = {
    "layer_sd15_transparent_attn": "sd15_attn",
    "layer_sd15_joint": "sd15_joint",
    "layer_sd15_fg2bg": "sd15_control",
    "layer_sd15_bg2fg": "sd15_control",
    "layer_xl_transparent_attn": "sdxl_attn",
    "layer_xl_transparent_conv": "sdxl_all_but_qkv",
    "layer_xl_bgble2fg": "sdxl_all_but_qkv",
    "layer_xl_fg2ble": "sdxl_convs",
    "layer_xl_bg2ble": "sdxl_convs",
    "layer_xl_fgble2bg": "sdxl_convs",
}


def real_shapes(layout: str) -> dict[str, list]:
    """Returns each tensor's shape in a published file, integers' types in front."""

    def flatten(node: dict | list, path: str) -> dict[str, list]:
        if isinstance(node, list):
            return {path: node}
        parts = ((f"{path}.{part}" if path else part, child) for part, child in node.items())
        return {key: shape for name, child in parts for key, shape in flatten(child, name).items()}

    return flatten(json.loads((SHAPES / f"{layout}.json").read_text()), "")


def shrunk(size: int) -> int:
    """Returns a width at 1/32, where it is one."""
    return size // SHRINK if size >= 2 * SHRINK and size % SHRINK == 0 else size


def is_there(key: str) -> bool:
    """Whether a published tensor is in the small file too."""
    parts = key.split(".")
    return not any(b.isdigit() and int(b) >= DEPTHS.get(a, math.inf) for a, b in pairwise(parts))


def random_tensors(layout: str | Arch, seed: int = 0, gain: float = 1.0) -> dict[str, Tensor]:
    """Returns a published file's tensors, small and random, all but norms times `gain`.

    The dict is the caller's own, the tensors are everybody's.
    """
    return dict(_random_tensors(layout, seed, gain))


@cache
def _random_tensors(layout: str | Arch, seed: int, gain: float) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for key, shape in real_shapes(_CHECKPOINTS.get(layout, layout)).items():
        if not is_there(key) and not key.startswith("hookers"):
            continue
        if shape and isinstance(shape[0], str):
            tensors[key] = torch.arange(shape[-1]).unsqueeze(0) if shape[0] == "I64" else None
            continue
        size = tuple(map(shrunk, shape))
        noise = torch.randn(size, generator=generator)
        if len(size) > 1:
            noise *= gain / math.sqrt(math.prod(size[1:]))
        else:
            noise = 0.05 * gain * noise
            is_norm = any(part in key for part in ("norm", "ln_", "_layers.0.", ".out.0."))
            noise += is_norm and key.endswith("weight")
        tensors[key] = noise
    return {key: torch.zeros(()) if tensor is None else tensor for key, tensor in tensors.items()}


def method_tensors(method: LayerMethod, seed: int = 0, gain: float = 0.3) -> dict[str, Tensor]:
    """Returns the tensors of a method's file in its published layout."""
    tensors = random_tensors(_LAYOUTS[method.weights.stem], seed, gain)
    key = f"{CONV_IN}::diff::0"
    if method.patch is PatchKind.WEIGHTS and key in tensors:
        generator = torch.Generator().manual_seed(seed)
        wide, _, *kernel = tensors[key].shape
        size = (wide, 4 + method.concat_channels, *kernel)
        tensors[key] = gain * torch.randn(size, generator=generator) / 6
    return tensors
