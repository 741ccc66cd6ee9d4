"""A checkpoint as a diffusers pipeline, on its device, with the user's LoRAs; no network needed."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import Any

import diffusers
import torch
from transformers import CLIPTokenizer

from ...errors import SettingsError, WeightsError
from ...methods import Arch
from . import diffusers_vae as vae
from .families import Family, family_of
from .loras import add_loras
from .quiet import quiet

CONFIGS = Path(__file__).parent / "configs"
"""A folder in diffusers' layout for each family, and one with CLIP's tokenizer."""

_PIPELINES = {
    Arch.SD15: diffusers.StableDiffusionPipeline,
    Arch.SDXL: diffusers.StableDiffusionXLPipeline,
}
_DTYPES = {"cuda": torch.float16, "mps": torch.float16}
_FP16 = "fp16"


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

    Raises:
        LayerDiffuseError: A file is missing, broken or of another kind.
    """
    if offload is not Offload.NONE and torch.device(device).type == "cpu":
        raise SettingsError(
            "Offloading moves models off a graphics card, and there is none in use.",
            "Leave offloading out, or choose another device than the CPU.",
        )
    family = family_of(checkpoint)
    dtype = dtype or _DTYPES.get(torch.device(device).type, torch.float32)
    load = _from_folder if checkpoint.is_dir() else _from_file
    try:
        with quiet():
            pipeline = load(checkpoint, family, dtype)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise WeightsError(
            f"{checkpoint} could not be loaded: {error}.",
            "Choose a complete SD1.5 or SDXL checkpoint in safetensors.",
        ) from error
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            part.eval().requires_grad_(False)
    vae.prepare(pipeline.vae, tiling=tiling)
    add_loras(pipeline, loras)
    _move(pipeline, device, offload)
    return pipeline, family.arch


def _from_folder(folder: Path, family: Family, dtype: torch.dtype) -> Any:
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    only_half = not weights.exists() and weights.with_suffix(f".{_FP16}.safetensors").exists()
    more = {"safety_checker": None, "requires_safety_checker": False}
    return _PIPELINES[family.arch].from_pretrained(
        folder,
        dtype=dtype,
        local_files_only=True,
        use_safetensors=True,
        variant=_FP16 if only_half else None,
        **(more if family.arch is Arch.SD15 else {"add_watermarker": False}),
    )


def _from_file(checkpoint: Path, family: Family, dtype: torch.dtype) -> Any:
    folder = CONFIGS / family.arch.name.lower()
    return _PIPELINES[family.arch].from_single_file(
        str(checkpoint),
        config=str(folder),
        scheduler=_scheduler(folder / "scheduler", family),
        **_tokenizers(family.arch),
        torch_dtype=dtype,
        local_files_only=True,
    )


def _scheduler(folder: Path, family: Family) -> Any:
    more: dict[str, Any] = {}
    if family.v_prediction:
        more["prediction_type"] = "v_prediction"
    if family.zero_snr:
        more["rescale_betas_zero_snr"] = True
    return diffusers.EulerDiscreteScheduler.from_pretrained(folder, **more)


def _tokenizers(arch: Arch) -> dict[str, Any]:
    """Returns CLIP's tokenizer for each text encoder; OpenCLIP ViT-bigG pads with "!"."""
    folder = CONFIGS / "tokenizer"
    made = {"tokenizer": CLIPTokenizer.from_pretrained(folder)}
    if arch is Arch.SDXL:
        made["tokenizer_2"] = CLIPTokenizer.from_pretrained(folder, pad_token="!")
    return made


def _move(pipeline: Any, device: str, offload: Offload) -> None:
    try:
        if offload is Offload.MODEL:
            pipeline.enable_model_cpu_offload(device=device)
        elif offload is Offload.SEQUENTIAL:
            pipeline.enable_sequential_cpu_offload(device=device)
        else:
            pipeline.to(device)
    except (RuntimeError, AssertionError) as error:
        raise SettingsError(
            f"The checkpoint could not be moved to {device}: {error}.",
            "Choose another device, a smaller type such as float16, or offloading.",
        ) from error
