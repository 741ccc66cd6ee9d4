"""Small random checkpoints and layer files with the real ones' tensors, at 1/32 the width.

The names come from lists of the published files (`tests/e2e/shapes`), so that whatever reads these
reads those. Of the blocks that only repeat, in the transformers, the first few are there.
"""

from __future__ import annotations

import atexit
import json
import math
import shutil
import tempfile
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tiny_codec import SHAPES, tiny_encoder_weights
from tiny_weights import decoder_file, put
from torch import Tensor

from lib_layerdiffuse.hosts.diffusers import DiffusersHost, loading
from lib_layerdiffuse.methods import DECODERS, ENCODERS, METHODS, Arch, LayerMethod, PatchKind
from lib_layerdiffuse.weights import checkpoints
from lib_layerdiffuse.weights.patches import CONV_IN

SHRINK = 32
DEPTHS = {"transformer_blocks": 2, "layers": 3, "resblocks": 3}
START, END = "<|startoftext|>", "<|endoftext|>"
WORDS = ("cat", "dog", "red", "glass", "apple", "book", "a", "on", "of")
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
    """Returns a published file's tensors, small and random, all but norms times `gain`."""
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


def write_checkpoint(path: Path, arch: Arch, seed: int = 0) -> Path:
    """Writes a checkpoint in one file."""
    save_file(random_tensors(arch, seed), path)
    return path


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


@lru_cache
def folder() -> Path:
    """Returns a folder that is there until the tests end."""
    path = Path(tempfile.mkdtemp(prefix="tiny-diffusers-"))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


@lru_cache
def layer_folder() -> Path:
    """Returns a folder with every method's file and both families' codecs, vouched for."""
    path = folder() / "layer_model"
    path.mkdir()
    for arch in Arch:
        put(path, DECODERS[arch], decoder_file(arch))
        put(path, ENCODERS[arch], tiny_encoder_weights(list(Arch).index(arch)))
    for number, method in enumerate(METHODS):
        put(path, method.weights, method_tensors(method, number))
    return path


@lru_cache
def checkpoint(arch: Arch) -> Path:
    """Returns a checkpoint in one file."""
    return write_checkpoint(folder() / f"{arch.name.lower()}.safetensors", arch)


def load(arch: Arch, path: Path | None = None, **options: object) -> DiffusersHost:
    """Returns a new host of the small checkpoint, on the CPU."""
    with pytest.MonkeyPatch.context() as patch:
        lend(patch)
        return DiffusersHost.load(path or checkpoint(arch), device="cpu", **options)


@lru_cache
def host(arch: Arch) -> DiffusersHost:
    """Returns the one host that tests share; they have to leave it as it is."""
    return load(arch)


@lru_cache
def configs() -> Path:
    """Returns the folder of the small checkpoints' configurations and their tokenizer."""
    small = folder() / "configs"
    for path in loading.CONFIGS.glob("sd*/**/*.json"):
        config = json.loads(path.read_text())
        if path.name != "model_index.json":
            config = _shrunk_config(config, path.parent.name)
        target = small / path.relative_to(loading.CONFIGS)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(config))
    write_tokenizer(small / "tokenizer")
    return small


def _shrunk_config(config: dict, name: str) -> dict:
    for key, value in config.items():
        if key in ("bos_token_id", "eos_token_id"):
            config[key] = _vocabulary().index(START if key.startswith("bos") else END)
        elif key == "num_hidden_layers":
            config[key] = DEPTHS["layers"]
        elif key == "transformer_layers_per_block":
            config[key] = [min(depth, DEPTHS["transformer_blocks"]) for depth in value]
        elif key == "block_out_channels":
            config[key] = [shrunk(width) for width in value]
        elif isinstance(value, int) and not isinstance(value, bool) and key != "sample_size":
            config[key] = shrunk(value) if key != "num_train_timesteps" else value
    if name in ("unet", "vae"):
        config["norm_num_groups"] = 2
    if config.get("attention_head_dim") == 8:  # SD1.5's number of heads.
        config["attention_head_dim"] = 2
    return config


def _vocabulary() -> list[str]:
    letters = [chr(code) for code in range(33, 127)]
    words = [word + "</w>" for word in WORDS if len(word) > 1]
    return [*letters, *(letter + "</w>" for letter in letters), *words, START, END]


def write_tokenizer(folder: Path) -> None:
    """Writes a tokenizer that knows letters and no merges."""
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = {token: number for number, token in enumerate(_vocabulary())}
    config = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": 77,
        "bos_token": START,
        "eos_token": END,
        "unk_token": END,
        "pad_token": END,
    }
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def lend(patch: pytest.MonkeyPatch) -> None:
    """Makes the host take checkpoints in one file for small ones."""
    patch.setattr(loading, "CONFIGS", configs())
    widths = {shrunk(width): arch for width, arch in checkpoints.TEXT_WIDTHS.items()}
    patch.setattr(checkpoints, "TEXT_WIDTHS", widths)
