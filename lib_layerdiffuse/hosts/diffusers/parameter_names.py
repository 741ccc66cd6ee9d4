"""The UNet's parameters: the names in checkpoints and weight files, and the diffusers package's.

Source: the state dict of an SD1.5 or SDXL checkpoint (ldm names) beside that of diffusers'
`UNet2DConditionModel`. Block numbers follow from the UNet's own configuration, so that any number
of levels, of blocks on a level and of channels is mapped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

PREFIX = "diffusion_model."

_ENDS = (
    ("input_blocks.0.0", "conv_in"),
    ("time_embed.0", "time_embedding.linear_1"),
    ("time_embed.2", "time_embedding.linear_2"),
    ("label_emb.0.0", "add_embedding.linear_1"),
    ("label_emb.0.2", "add_embedding.linear_2"),
    ("out.0", "conv_norm_out"),
    ("out.2", "conv_out"),
)
_RESNET = (
    ("in_layers.0", "norm1"),
    ("in_layers.2", "conv1"),
    ("emb_layers.1", "time_emb_proj"),
    ("out_layers.0", "norm2"),
    ("out_layers.3", "conv2"),
    ("skip_connection", "conv_shortcut"),
)
_Pairs = Iterator[tuple[str, str]]


def module_names(config: Mapping[str, Any]) -> dict[str, str]:
    """Returns diffusers' name of each part of the UNet by its ldm name, without prefixes.

    Spatial transformers are one part: the names inside them are the same in both.

    Args:
        config: A `UNet2DConditionModel`'s configuration.
    """
    down = config["down_block_types"]
    layers = config["layers_per_block"]
    layers = [layers] * len(down) if isinstance(layers, int) else list(layers)
    pairs = [*_ENDS, *_down_blocks(down, layers), *_middle_block()]
    return dict(pairs + list(_up_blocks(config["up_block_types"], layers[::-1])))


def diffusers_name(names: Mapping[str, str], key: str) -> str | None:
    """Returns diffusers' name of a module or parameter, or None for one that has none.

    Args:
        names: From `module_names`.
        key: Its ldm name, with or without `diffusion_model.`
    """
    parts = key.removeprefix(PREFIX).split(".")
    for end in range(len(parts), 0, -1):
        found = names.get(".".join(parts[:end]))
        if found is not None:
            return ".".join([found, *parts[end:]])
    return None


def _resnet(ldm: str, ours: str) -> _Pairs:
    return ((f"{ldm}.{a}", f"{ours}.{b}") for a, b in _RESNET)


def _down_blocks(types: list[str], layers: list[int]) -> _Pairs:
    number = 0
    for level, kind in enumerate(types):
        block = f"down_blocks.{level}"
        for layer in range(layers[level]):
            number += 1
            yield from _resnet(f"input_blocks.{number}.0", f"{block}.resnets.{layer}")
            if kind.startswith("CrossAttn"):
                yield f"input_blocks.{number}.1", f"{block}.attentions.{layer}"
        if level < len(types) - 1:
            number += 1
            yield f"input_blocks.{number}.0.op", f"{block}.downsamplers.0.conv"


def _middle_block() -> _Pairs:
    yield from _resnet("middle_block.0", "mid_block.resnets.0")
    yield "middle_block.1", "mid_block.attentions.0"
    yield from _resnet("middle_block.2", "mid_block.resnets.1")


def _up_blocks(types: list[str], layers: list[int]) -> _Pairs:
    number = 0
    for level, kind in enumerate(types):
        block, attends = f"up_blocks.{level}", kind.startswith("CrossAttn")
        for layer in range(layers[level] + 1):
            yield from _resnet(f"output_blocks.{number}.0", f"{block}.resnets.{layer}")
            if attends:
                yield f"output_blocks.{number}.1", f"{block}.attentions.{layer}"
            if layer == layers[level] and level < len(types) - 1:
                upsampler = f"output_blocks.{number}.{2 if attends else 1}.conv"
                yield upsampler, f"{block}.upsamplers.0.conv"
            number += 1
