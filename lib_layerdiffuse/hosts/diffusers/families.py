"""Which family a checkpoint is of, found without loading it; what no method fits is refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import (
    ArchMismatchError,
    LayerDiffuseError,
    MissingCapabilityError,
    WeightsError,
    WeightsNotFoundError,
)
from ...methods import Arch
from ...weights.checkpoints import UNET, arch_of, read_shapes, text_width

_CONV_IN = f"{UNET}input_blocks.0.0.weight"
_OTHERS = {1024: "an SD2 checkpoint", 1280: "an SDXL refiner"}
_TEXT_KEYS = {Arch.SD15: ("cond_stage_model.",), Arch.SDXL: ("conditioner.embedders.",)}
_HINT = "Choose an ordinary SD1.5 or SDXL checkpoint."


@dataclass(frozen=True)
class Family:
    """What a checkpoint is.

    Attributes:
        arch: SD1.5 or SDXL.
        v_prediction: Whether a single file says that its UNet predicts velocity.
        zero_snr: Whether a single file says that its schedule ends in pure noise.
    """

    arch: Arch
    v_prediction: bool = False
    zero_snr: bool = False


def family_of(checkpoint: Path) -> Family:
    """Returns the family of a `.safetensors` file or diffusers folder.

    Raises:
        WeightsNotFoundError: There is no such file or folder.
        WeightsError: The file is damaged, of another format, or holds a part of a checkpoint only.
        ArchMismatchError: It is of another family.
        MissingCapabilityError: Its UNet takes more than a latent.
    """
    if checkpoint.is_dir():
        return _of_folder(checkpoint)
    if not checkpoint.is_file():
        raise WeightsNotFoundError(
            f"There is no checkpoint at {checkpoint}.", "Check its name and folder."
        )
    return family_of_shapes(read_shapes(checkpoint))


def family_of_shapes(shapes: Mapping[str, tuple[int, ...]]) -> Family:
    """Returns the family of a checkpoint in one file, by its tensors' shapes.

    Raises:
        WeightsError: It holds a part of a checkpoint only.
        ArchMismatchError: It is of another family.
        MissingCapabilityError: Its UNet takes more than a latent.
    """
    if _CONV_IN not in shapes:
        raise _other("another model", "such as SD3, Flux, a LoRA or a bare UNet")
    _check_channels(shapes[_CONV_IN][1])
    arch = arch_of(shapes)
    if arch is None:
        width = text_width(shapes)
        raise _other(_OTHERS.get(width, "another model"), f"text of {width} channels")
    for part, prefixes in {
        "text encoder": _TEXT_KEYS[arch],
        "VAE": ("first_stage_model.",),
    }.items():
        if not any(key.startswith(prefixes) for key in shapes):
            raise WeightsError(
                f"The checkpoint comes without its {part}.",
                "Choose a checkpoint that has UNet, text encoder and VAE in one file.",
            )
    return Family(arch, v_prediction="v_pred" in shapes, zero_snr="ztsnr" in shapes)


def _of_folder(folder: Path) -> Family:
    index, unet = (_read_json(folder / name) for name in ("model_index.json", "unet/config.json"))
    _check_channels(unet.get("in_channels", 4))
    name = str(index.get("_class_name"))
    encoders = [bool((index.get(f"text_encoder{n}") or [None])[0]) for n in ("", "_2")]
    if name.startswith("StableDiffusionXL") and unet.get("addition_embed_type") == "text_time":
        if all(encoders):
            return Family(Arch.SDXL)
        raise _other("an SDXL refiner", "without the first text encoder")
    if name.startswith("StableDiffusion") and not unet.get("addition_embed_type"):
        if unet.get("use_linear_projection"):
            raise _other("an SD2 checkpoint", "with linear projections")
        if encoders == [True, False]:
            return Family(Arch.SD15)
    raise _other("another model", name)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise WeightsNotFoundError(
            f"{path.parent} is no diffusers folder: it has no {path.name}.",
            "Give the folder that has model_index.json, unet, vae and text_encoder in it.",
        ) from error
    except (OSError, ValueError) as error:
        raise WeightsError(
            f"{path} is damaged and cannot be read: {error}.", "Download it again."
        ) from error
    return dict(found)


def _check_channels(channels: int) -> None:
    if channels != 4:
        raise MissingCapabilityError(
            f"The checkpoint is one for inpainting or editing: its UNet takes {channels} channels, "
            "not 4.",
            "Choose an ordinary checkpoint instead of one for inpainting or editing.",
            field="method",
        )


def _other(what: str, detail: str) -> LayerDiffuseError:
    return ArchMismatchError(
        f"LayerDiffuse works with SD1.5 and SDXL, and this is {what} ({detail}).",
        _HINT,
        field="method",
    )
