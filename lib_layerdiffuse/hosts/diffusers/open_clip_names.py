"""LoRAs of a text encoder whose layers go by OpenCLIP's names, as in SDXL's own checkpoints.

Source: the state dict of SDXL's second text encoder in a checkpoint of one file, beside that of
transformers' `CLIPTextModelWithProjection`.
"""

from __future__ import annotations

import re
from dataclasses import replace

from ...errors import WeightsError
from ...weights.user_loras import LoraLayer

_INNER = {
    "attn_out_proj": "self_attn_out_proj",
    "mlp_c_fc": "mlp_fc1",
    "mlp_c_proj": "mlp_fc2",
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
}
_FUSED = ("attn_in_proj", "attn_in_proj_weight")
"""Three layers in one."""
_WRAPPERS = "(?:lora_|lycoris_|base_model_model_)*"
_SECOND = "|".join(
    ("te2_", "text_encoder_2_", "text_encoders_clip_g_", "clip_g_", "conditioner_embedders_1_", "")
)
_BLOCK = re.compile(
    rf"{_WRAPPERS}(?:{_SECOND})(?:(?:model|text_model|transformer)_)*"
    r"resblocks_(?P<number>\d+)_(?P<inner>\w+)"
)
_SPLIT = ("up", "diff", "bias", "magnitude")
"""Parts that hold a row for each of a layer's outputs."""


def in_clips_names(layer: LoraLayer, file: str) -> list[LoraLayer]:
    """Returns a layer under the names that transformers has for it, three for a fused one.

    Args:
        layer: One of any name; those that are not OpenCLIP's stay as they are.
        file: What messages call its file.

    Raises:
        WeightsError: Three layers in one cannot be told apart.
    """
    match = _BLOCK.fullmatch(layer.key.replace(".", "_"))
    if match is None:
        return [layer]
    block, inner = f"te2_text_model_encoder_layers_{match['number']}", match["inner"]
    if inner in _FUSED:
        return [
            replace(_third(layer, place, file), key=f"{block}_self_attn_{name}_proj")
            for place, name in enumerate("qkv")
        ]
    return [replace(layer, key=f"{block}_{_INNER[inner]}")] if inner in _INNER else [layer]


def _third(layer: LoraLayer, place: int, file: str) -> LoraLayer:
    others = layer.parts.keys() - {*_SPLIT, "down", "alpha"}
    rows = [layer.parts[name] for name in _SPLIT if name in layer.parts]
    if others or not all(part.ndim and part.shape[0] % 3 == 0 for part in rows):
        raise WeightsError(
            f"The LoRA {file} cannot be used: its {layer.key} is for three layers at once, and "
            "only a LoRA or a difference can be cut into three.",
            "Choose one for diffusers, or one without the text encoder.",
        )
    split = {name: part.chunk(3)[place] for name, part in layer.parts.items() if name in _SPLIT}
    return replace(layer, parts=layer.parts | split)
