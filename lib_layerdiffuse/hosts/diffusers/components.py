"""The parts of a checkpoint, loaded one by one; each has every tensor, or is refused by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import diffusers
import torch
from accelerate import init_empty_weights
from diffusers.loaders.single_file_model import SINGLE_FILE_LOADABLE_CLASSES
from diffusers.loaders.single_file_utils import create_diffusers_clip_model_from_ldm
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from ...errors import WeightsError, WeightsNotFoundError
from ...methods import Arch
from ...weights.tensor_files import CONVERT, read_header
from .boundary import translated
from .families import read_json

_SD15 = {
    "unet": diffusers.UNet2DConditionModel,
    "vae": diffusers.AutoencoderKL,
    "text_encoder": CLIPTextModel,
}
NETS: Mapping[Arch, Mapping[str, Any]] = {
    Arch.SD15: _SD15,
    Arch.SDXL: {**_SD15, "text_encoder_2": CLIPTextModelWithProjection},
}
"""The networks of a checkpoint by the names of their folders."""

_COMPLETE = "Choose a complete SD1.5 or SDXL checkpoint in safetensors."
_VARIANTS = ("", "fp16")
_CLIP_VOCABULARY = 49408
_MARKS = {"bos": "a text's beginning", "eos": "its end", "pad": "nothing"}


def net_from_folder(folder: Path, part: str, kind: Any, dtype: torch.dtype, variant: str) -> Any:
    """Returns one network of a diffusers folder.

    Args:
        folder: The folder.
        part: The network's folder in it.
        kind: Its class.
        dtype: What it computes in.
        variant: Its files, as `variant_of` says.

    Raises:
        WeightsError: A tensor is missing, damaged or of another format or shape.
    """
    with translated(WeightsError, f"The {part} of {folder} could not be loaded", _COMPLETE):
        net, found = kind.from_pretrained(
            str(folder),
            subfolder=part,
            dtype=dtype,
            local_files_only=True,
            use_safetensors=True,
            variant=variant or None,
            output_loading_info=True,
        )
    _refuse_missing(folder, part, {*found["missing_keys"], *_on_meta(net)})
    return net


def variant_of(folder: Path, part: str) -> str:
    """Returns which files a network has in a diffusers folder: "", or "fp16" for half precision.

    Nothing is loaded, but each file is looked at.

    Raises:
        WeightsError: A file is missing, damaged or of another format.
    """
    read_json(folder / part / "config.json")
    stem = "model" if part.startswith("text_encoder") else "diffusion_pytorch_model"
    for variant in _VARIANTS:
        dotted = f".{variant}" if variant else ""
        whole = folder / part / f"{stem}{dotted}.safetensors"
        index = folder / part / f"{stem}.safetensors.index{dotted}.json"
        if whole.is_file():
            files = {whole.name}
        elif index.is_file():
            shards = read_json(index).get("weight_map")
            if not isinstance(shards, dict) or not shards:
                raise WeightsError(f"{index} lists no files.", "Download it again.")
            files = {str(name) for name in shards.values()}
        else:
            continue
        for name in sorted(files):
            path = folder / part / name
            if not path.is_file():
                raise WeightsNotFoundError(
                    f"{folder} lacks {part}/{name}.", "Download the whole folder again."
                )
            read_header(path, f"{part}/{name}")
        return variant
    others = [*(folder / part).glob("*.bin"), *(folder / part).glob("*.ckpt")]
    raise WeightsNotFoundError(
        f"{folder} lacks {part}/{stem}.safetensors.",
        CONVERT if others else "Download the whole folder again.",
    )


def net_from_file(
    tensors: Mapping[str, Tensor], name: str, config: Path, part: str, kind: Any, dtype: torch.dtype
) -> Any:
    """Returns one network of a checkpoint in one file.

    Args:
        tensors: Of the whole file.
        name: The file's.
        config: A folder of the family in diffusers' layout, for its configurations.
        part: The network's name there.
        kind: Its class.
        dtype: What it computes in.

    Raises:
        WeightsError: A tensor is missing, or of another shape.
    """
    with translated(WeightsError, f"The {part} of {name} could not be loaded", _COMPLETE):
        # Copies: the libraries take out what they have read.
        if part.startswith("text_encoder"):
            net = create_diffusers_clip_model_from_ldm(
                kind,
                dict(tensors),
                config=str(config),
                subfolder=part,
                torch_dtype=dtype,
                local_files_only=True,
            )
            missing = _on_meta(net)
        else:
            shape = kind.load_config(str(config), subfolder=part, local_files_only=True)
            with init_empty_weights():
                net = kind.from_config(shape)
            convert = SINGLE_FILE_LOADABLE_CLASSES[kind.__name__]["checkpoint_mapping_fn"]
            state = convert(config=shape, checkpoint=dict(tensors))
            missing = net.state_dict().keys() - state.keys()
            net.load_state_dict(state, strict=False, assign=True)
            if not missing:
                net.to(dtype)
    _refuse_missing(name, part, missing)
    return net


def _on_meta(net: nn.Module) -> set[str]:
    """Returns the names of tensors that have a shape and no values."""
    pairs = (*net.named_parameters(), *net.named_buffers())
    return {name for name, tensor in pairs if tensor.is_meta}


def _refuse_missing(name: object, part: str, missing: Iterable[str]) -> None:
    names = sorted(missing)
    if names:
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        raise WeightsError(f"{name} lacks {names[0]}{more} of its {part}.", _COMPLETE)


def tokenizers_from_folder(
    folder: Path, shipped: Path, nets: Mapping[str, Any]
) -> dict[str, CLIPTokenizer]:
    """Returns a folder's tokenizers; CLIP's own where one is missing and the encoder knows it.

    Their longest text is what the text encoder reads, whatever their own files say or leave out.

    Raises:
        WeightsError: One is damaged, or missing for a text encoder with other words than CLIP's.
    """
    ours = shipped_tokenizers(shipped, Arch.SDXL if "text_encoder_2" in nets else Arch.SD15)
    made = {}
    for part in ours:
        encoder = nets[part.replace("tokenizer", "text_encoder")].config
        if _has_words(folder / part):
            with translated(WeightsError, f"The {part} of {folder} could not be loaded", _COMPLETE):
                made[part] = CLIPTokenizer.from_pretrained(
                    str(folder), subfolder=part, local_files_only=True
                )
                made[part].model_max_length = int(encoder.max_position_embeddings)
            _check_words(made[part], f"The {part} of {folder}")
            continue
        words = encoder.vocab_size
        if words != _CLIP_VOCABULARY:
            raise WeightsNotFoundError(
                f"{folder} lacks its {part}, and its text encoder knows {words} words instead of "
                f"CLIP's {_CLIP_VOCABULARY}.",
                "Download the whole folder again.",
            )
        made[part] = ours[part]
    return made


def _has_words(folder: Path) -> bool:
    """Whether a tokenizer's vocabulary is there; without one the library takes every word for one
    that it does not know, and says nothing.
    """
    pair = (folder / "vocab.json", folder / "merges.txt")
    return (folder / "tokenizer.json").is_file() or all(path.is_file() for path in pair)


def _check_words(tokenizer: CLIPTokenizer, name: str) -> None:
    for what in ("bos", "eos", "pad"):
        if not isinstance(getattr(tokenizer, f"{what}_token_id"), int):
            raise WeightsError(
                f"{name} lacks the word that it writes for {_MARKS[what]}.", _COMPLETE
            )


def shipped_tokenizers(folder: Path, arch: Arch) -> dict[str, CLIPTokenizer]:
    """Returns CLIP's tokenizer for each text encoder; OpenCLIP ViT-bigG pads with "!"."""
    made = {"tokenizer": CLIPTokenizer.from_pretrained(folder)}
    if arch is Arch.SDXL:
        made["tokenizer_2"] = CLIPTokenizer.from_pretrained(folder, pad_token="!")
    return made


def scheduler_from(folder: Path, **more: Any) -> Any:
    """Returns the scheduler of a diffusers folder, whose training schedule runs are made for.

    Args:
        folder: With `scheduler_config.json`.
        more: What to change in it.

    Raises:
        WeightsError: It is missing or damaged.
    """
    config = read_json(folder / "scheduler_config.json")
    found = getattr(diffusers, str(config.get("_class_name")), None)
    known = isinstance(found, type) and issubclass(found, diffusers.SchedulerMixin)
    kind: Any = found if known else diffusers.EulerDiscreteScheduler
    with translated(WeightsError, f"{folder} holds no usable schedule", _COMPLETE):
        return kind.from_config(config, **more)
