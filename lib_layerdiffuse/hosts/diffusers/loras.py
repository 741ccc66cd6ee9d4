"""The user's LoRAs, added to the weights of a pipeline's parts when it is loaded.

A checkpoint is loaded anew for other LoRAs, so nothing has to take them off again; that each has
arrived is seen in the weights themselves.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...errors import SettingsError, WeightsError, WeightsNotFoundError
from ...weights.tensor_files import load_tensors, read_header
from ...weights.user_loras import LoraLayer, LoraMisfit, read_lora
from .open_clip_names import in_clips_names
from .parameter_names import module_names

_HINT = "Choose a LoRA of the checkpoint's family."
_UNET = ("", "unet_", "diffusion_model_")
# Prefixes of each text encoder's layers; the bare name, too, for the first one's.
_TEXT = {
    "text_encoder": ("te_", "te1_", "text_encoder_", "text_encoders_clip_l_transformer_", ""),
    "text_encoder_2": ("te2_", "text_encoder_2_", "text_encoders_clip_g_transformer_"),
}
_WRAPPERS = ("base_model_model_", "lora_", "lycoris_", "model_diffusion_model_")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Lora:
    """A LoRA's file that has been read.

    Attributes:
        name: The file's.
        strength: Its weight.
        layers: What it changes.
        unknown: Keys of it that nothing is known of.
    """

    name: str
    strength: float
    layers: Sequence[LoraLayer]
    unknown: Sequence[str]


def read_loras(loras: Sequence[tuple[Path, float]]) -> list[Lora]:
    """Returns LoRAs' files, read; a checkpoint, which takes longer, is loaded after that.

    Raises:
        LayerDiffuseError: One is missing, broken or no LoRA.
    """
    return [_read(path, strength) for path, strength in loras]


def _read(path: Path, strength: float) -> Lora:
    if not math.isfinite(strength):
        raise SettingsError(
            f"The weight of the LoRA {path.name} is {strength}.", "Give a number such as 0.8."
        )
    if not path.is_file():
        raise WeightsNotFoundError(f"There is no LoRA at {path}.", "Check its name and folder.")
    metadata = read_header(path).metadata
    layers, unknown = read_lora(load_tensors(path), metadata, path.name)
    named = [one for layer in layers for one in in_clips_names(layer, path.name)]
    return Lora(path.name, strength, named, unknown)


@torch.no_grad()
def add_loras(pipeline: Any, loras: Sequence[Lora]) -> None:
    """Adds LoRAs to a pipeline's weights, in float32.

    Args:
        pipeline: Still on the CPU.
        loras: From `read_loras`.

    Raises:
        LayerDiffuseError: One is for another checkpoint.
    """
    modules = _modules_by_key(pipeline) if loras else {}
    for lora in loras:
        _add(modules, lora)


def _add(modules: Mapping[str, nn.Module], lora: Lora) -> None:
    name, strength, layers = lora.name, lora.strength, lora.layers
    found = {layer.key: _find(modules, layer.key) for layer in layers}
    unknown = [*lora.unknown, *(key for key, module in found.items() if module is None)]
    if not any(found.values()):
        raise WeightsError(
            f"The LoRA {name} does not fit this checkpoint, which has none of its "
            f"{len(found)} layers, such as {min(found)}.",
            _HINT,
        )
    arrived = False
    for layer in layers:
        module = found[layer.key]
        if module is not None:
            arrived |= _change(module, layer, strength, name)
    if strength and not arrived:
        raise WeightsError(
            f"The LoRA {name} changes nothing at a weight of {strength:g}.",
            "Give it a greater weight, or leave it out.",
        )
    if unknown:
        _log.warning(
            "The LoRA %s acts, but for %d of its parts that this checkpoint has no layer for, "
            "such as %s.",
            name,
            len(unknown),
            min(unknown),
        )


def _change(module: nn.Module, layer: LoraLayer, strength: float, name: str) -> bool:
    """Adds what a file does to one layer, and returns whether a value has changed."""
    changed = False
    for kind, added in (("weight", layer.changed), ("bias", layer.bias)):
        if set(layer.parts) <= {"bias"} if kind == "weight" else "bias" not in layer.parts:
            continue
        parameter = module._parameters.get(kind)
        if parameter is None:
            raise WeightsError(
                f"The LoRA {name} does not fit this checkpoint: its {layer.key} has a {kind}, "
                "and the checkpoint's has none.",
                _HINT,
            )
        try:
            made = added(parameter.detach().to(torch.float32), strength).to(parameter.dtype)
        except LoraMisfit as error:
            said = f"The LoRA {name} cannot be used: {error.message}."
            raise WeightsError(said, error.hint) from error
        changed |= not torch.equal(made, parameter)
        # Not in place: the values may lie in the checkpoint's mapped file.
        parameter.data = made
    return changed


def _find(modules: Mapping[str, nn.Module], key: str) -> nn.Module | None:
    """Returns the module that a key of a LoRA's file names."""
    name = key.replace(".processor.", ".").replace(".", "_")
    while True:
        if name in modules:
            return modules[name]
        if f"{name}_0" in modules and name.endswith("_to_out"):
            return modules[f"{name}_0"]
        wrapper = next((prefix for prefix in _WRAPPERS if name.startswith(prefix)), None)
        if wrapper is None:
            return None
        name = name.removeprefix(wrapper)


def _modules_by_key(pipeline: Any) -> dict[str, nn.Module]:
    """Returns each layer under every name that files give it, with "_" for each "."."""
    found: dict[str, nn.Module] = {}
    ldm = {ours: theirs for theirs, ours in module_names(pipeline.unet.config).items()}
    for path, module in _layers(pipeline.unet):
        for name in {path, _ldm_name(ldm, path)}:
            found |= {f"{prefix}{name}".replace(".", "_"): module for prefix in _UNET}
    for part, prefixes in _TEXT.items():
        encoder = getattr(pipeline, part, None)
        for path, module in _layers(encoder) if encoder is not None else ():
            inner = path.removeprefix("text_model.").replace(".", "_")
            for prefix in prefixes:
                found[f"{prefix}text_model_{inner}"] = module
                if prefix:
                    found[f"{prefix}{inner}"] = module
    return found


def _layers(net: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    return ((path, module) for path, module in net.named_modules() if module._parameters)


def _ldm_name(names: Mapping[str, str], path: str) -> str:
    """Returns the ldm name of a UNet's module, or the path itself for one that has none."""
    parts = path.split(".")
    for end in range(len(parts), 0, -1):
        found = names.get(".".join(parts[:end]))
        if found is not None:
            return ".".join([found, *parts[end:]])
    return path
