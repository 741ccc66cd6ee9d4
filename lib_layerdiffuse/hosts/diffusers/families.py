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
    shortened,
)
from ...methods import Arch
from ...weights.checkpoints import UNET, arch_of, text_width
from ...weights.tensor_files import read_header, what_else

_CONV_IN = f"{UNET}input_blocks.0.0.weight"
_OTHERS = {1024: "an SD2 checkpoint", 1280: "an SDXL refiner"}
_TEXT_KEYS = {Arch.SD15: ("cond_stage_model.",), Arch.SDXL: ("conditioner.embedders.",)}
_CLASSES = {
    "unet": "UNet2DConditionModel",
    "vae": "AutoencoderKL",
    "text_encoder": "CLIPTextModel",
}
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
    header = read_header(checkpoint)
    return family_of_shapes(header.shapes, header.metadata)


def family_of_shapes(
    shapes: Mapping[str, tuple[int, ...]], metadata: Mapping[str, str] | None = None
) -> Family:
    """Returns the family of a checkpoint in one file, by its tensors' shapes.

    Args:
        shapes: By name.
        metadata: The file's, for what its UNet predicts.

    Raises:
        WeightsError: It holds a part of a checkpoint only.
        ArchMismatchError: It is of another family.
        MissingCapabilityError: Its UNet takes more than a latent.
    """
    if _CONV_IN not in shapes:
        raise _other("another model", "such as SD3, Flux, a LoRA or a bare UNet")
    if len(shapes[_CONV_IN]) != 4:
        raise WeightsError(
            f"The checkpoint is damaged: its {_CONV_IN} is {list(shapes[_CONV_IN])}.",
            "Download it again.",
        )
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
    noted = (metadata or {}).get("modelspec.prediction_type", "").strip().lower()
    v_prediction = "v_pred" in shapes or noted.startswith("v")
    return Family(arch, v_prediction, zero_snr="ztsnr" in shapes)


def _of_folder(folder: Path) -> Family:
    index, unet = (read_json(folder / name) for name in ("model_index.json", "unet/config.json"))
    _check_channels(unet.get("in_channels", 4))
    name = str(index.get("_class_name"))
    encoders = [bool(_class_in(index, f"text_encoder{n}")) for n in ("", "_2")]
    arch = None
    if name.startswith("StableDiffusionXL") and unet.get("addition_embed_type") == "text_time":
        if not encoders[1]:
            raise _incomplete("second text encoder")
        if not encoders[0]:
            raise _other("an SDXL refiner", "without the first text encoder")
        arch = Arch.SDXL
    elif name.startswith("StableDiffusion") and not unet.get("addition_embed_type"):
        if unet.get("use_linear_projection"):
            raise _other("an SD2 checkpoint", "with linear projections")
        if not encoders[0]:
            raise _incomplete("text encoder")
        arch = Arch.SD15 if not encoders[1] else None
    if arch is None:
        raise _other("another model", shortened(name).strip("'"))
    _check_classes(index, arch)
    return Family(arch)


def _check_classes(index: Mapping[str, Any], arch: Arch) -> None:
    wanted = _CLASSES | (
        {"text_encoder_2": "CLIPTextModelWithProjection"} if arch is Arch.SDXL else {}
    )
    for part, name in wanted.items():
        found = _class_in(index, part)
        if found is None:
            raise _incomplete(part)
        if found != name:
            raise _other("another model", f"its {part} is a {shortened(found)[1:-1]}")


def _class_in(index: Mapping[str, Any], part: str) -> str | None:
    """Returns the class of a part as model_index.json has it; None where it is switched off."""
    entry = index.get(part)
    if not isinstance(entry, list) or len(entry) != 2 or not all(isinstance(x, str) for x in entry):
        return None
    return str(entry[1])


def _incomplete(part: str) -> WeightsError:
    return WeightsError(
        f"The checkpoint comes without its {part}.", "Download the whole folder again."
    )


def read_json(path: Path) -> dict[str, Any]:
    """Returns the object in a JSON file of a diffusers folder.

    Raises:
        WeightsNotFoundError: There is no such file.
        WeightsError: It holds something else, or cannot be read.
    """
    try:
        found = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise WeightsNotFoundError(
            f"{path.parent} is no diffusers folder: it has no {path.name}.",
            "Give the folder that has model_index.json, unet, vae and text_encoder in it.",
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        what = what_else(path)
        raise WeightsError(
            f"{path} {what[0] if what else 'is damaged and cannot be read'}.",
            what[1] if what else "Download it again.",
        ) from error
    if not isinstance(found, dict):
        raise WeightsError(f"{path} is another file: it holds no object.", "Download it again.")
    return found


def _check_channels(channels: object) -> None:
    if channels != 4:
        raise MissingCapabilityError(
            "The checkpoint is one for inpainting or editing: its UNet takes "
            f"{shortened(channels)} channels, not 4.",
            "Choose an ordinary checkpoint instead of one for inpainting or editing.",
            field="method",
        )


def _other(what: str, detail: str) -> LayerDiffuseError:
    return ArchMismatchError(
        f"LayerDiffuse works with SD1.5 and SDXL, and this is {what} ({detail}).",
        _HINT,
        field="method",
    )
