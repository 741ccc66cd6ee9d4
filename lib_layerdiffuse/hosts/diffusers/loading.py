"""A checkpoint as a diffusers pipeline, on its device, with the user's LoRAs; no network needed."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import Any

import diffusers
import torch

from ...errors import SettingsError, WeightsError
from ...methods import Arch
from ...weights.tensor_files import load_tensors
from . import diffusers_vae as vae
from .boundary import translated
from .components import (
    NETS,
    net_from_file,
    net_from_folder,
    scheduler_from,
    shipped_tokenizers,
    tokenizers_from_folder,
    variant_of,
)
from .families import Family, family_of
from .loras import add_loras, read_loras
from .quiet import quiet

CONFIGS = Path(__file__).parent / "configs"
"""A folder in diffusers' layout for each family, and one with CLIP's tokenizer."""

_PIPELINES = {
    Arch.SD15: diffusers.StableDiffusionPipeline,
    Arch.SDXL: diffusers.StableDiffusionXLPipeline,
}
_DTYPES = {"cuda": torch.float16, "mps": torch.float16}
_PREDICTIONS = {"eps": "epsilon", "v": "v_prediction"}
_SWITCHED_OFF: dict[Arch, dict[str, Any]] = {
    Arch.SD15: {
        "safety_checker": None,
        "feature_extractor": None,
        "requires_safety_checker": False,
    },
    Arch.SDXL: {"add_watermarker": False},
}
_COMPLETE = "Choose a complete SD1.5 or SDXL checkpoint in safetensors."


class Offload(str, Enum):
    """What is offloaded to main memory while it is not needed."""

    NONE = "none"
    MODEL = "model"
    SEQUENTIAL = "sequential"


def best_device() -> str:
    """Returns "cuda", "mps" or "cpu": the first that this machine has."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def load_pipeline(
    checkpoint: Path,
    *,
    dtype: torch.dtype | None,
    device: str,
    offload: Offload,
    loras: Sequence[tuple[Path, float]],
    tiling: bool,
    prediction: str | None = None,
) -> tuple[Any, Arch]:
    """Returns the pipeline, whose parts are used one by one, and the checkpoint's family.

    Args:
        checkpoint: A `.safetensors` file or a diffusers folder.
        dtype: What UNet and text encoders compute in; None for float16 on CUDA and MPS and float32
            on the CPU.
        device: As PyTorch names it.
        offload: What is offloaded while it is not needed.
        loras: LoRA files with their weights.
        tiling: Whether the VAE works in tiles.
        prediction: What the UNet predicts, "eps" for noise or "v" for velocity; None for what the
            checkpoint says.

    Raises:
        LayerDiffuseError: A file is missing, broken or of another kind.
    """
    if offload is not Offload.NONE and torch.device(device).type == "cpu":
        raise SettingsError(
            "Offloading moves models off a graphics card, and there is none in use.",
            "Leave offloading out, or choose another device than the CPU.",
        )
    family, read = family_of(checkpoint), read_loras(loras)  # First what takes no time.
    dtype = dtype or _DTYPES.get(torch.device(device).type, torch.float32)
    with quiet(), translated(WeightsError, f"{checkpoint} could not be loaded", _COMPLETE):
        parts = (_from_folder if checkpoint.is_dir() else _from_file)(checkpoint, family, dtype)
        if prediction:
            config = parts["scheduler"].config
            wanted = _PREDICTIONS[prediction]
            parts["scheduler"] = type(parts["scheduler"]).from_config(
                config, prediction_type=wanted
            )
        pipeline = _PIPELINES[family.arch](**parts, **_SWITCHED_OFF[family.arch])
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            part.eval().requires_grad_(False)
    vae.prepare(pipeline.vae, tiling=tiling)
    add_loras(pipeline, read)
    _move(pipeline, device, offload)
    return pipeline, family.arch


def _from_folder(folder: Path, family: Family, dtype: torch.dtype) -> dict[str, Any]:
    kinds = NETS[family.arch]
    variants = {part: variant_of(folder, part) for part in kinds}  # Before gigabytes are read.
    scheduler = scheduler_from(folder / "scheduler")
    nets = {
        part: net_from_folder(folder, part, kind, dtype, variants[part])
        for part, kind in kinds.items()
    }
    tokenizers = tokenizers_from_folder(folder, CONFIGS / "tokenizer", nets)
    return {**nets, **tokenizers, "scheduler": scheduler}


def _from_file(checkpoint: Path, family: Family, dtype: torch.dtype) -> dict[str, Any]:
    config = CONFIGS / family.arch.name.lower()
    tensors = load_tensors(checkpoint)
    nets = {
        part: net_from_file(tensors, checkpoint.name, config, part, kind, dtype)
        for part, kind in NETS[family.arch].items()
    }
    more: dict[str, Any] = {}
    if family.v_prediction:
        more["prediction_type"] = _PREDICTIONS["v"]
    if family.zero_snr:
        more["rescale_betas_zero_snr"] = True
    tokenizers = shipped_tokenizers(CONFIGS / "tokenizer", family.arch)
    return {**nets, **tokenizers, "scheduler": scheduler_from(config / "scheduler", **more)}


def _move(pipeline: Any, device: str, offload: Offload) -> None:
    with translated(
        SettingsError,
        f"The checkpoint could not be moved to {device}",
        "Choose another device, a smaller type such as float16, or offloading.",
    ):
        if offload is Offload.MODEL:
            pipeline.enable_model_cpu_offload(device=device)
        elif offload is Offload.SEQUENTIAL:
            pipeline.enable_sequential_cpu_offload(device=device)
        else:
            pipeline.to(device)
