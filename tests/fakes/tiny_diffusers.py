"""The small checkpoints and layer files of `shrunk_files`, for a host that reads them whole."""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import pytest
from safetensors.torch import save_file
from shrunk_files import DEPTHS, method_tensors, random_tensors, shrunk
from tiny_codec import tiny_encoder_weights
from tiny_weights import decoder_file, put
from torch import Tensor
from torch.nn import Module, Parameter

from lib_layerdiffuse.hosts.diffusers import DiffusersHost, loading
from lib_layerdiffuse.hosts.diffusers.loras import add_loras, read_loras
from lib_layerdiffuse.methods import DECODERS, ENCODERS, METHODS, Arch
from lib_layerdiffuse.weights import checkpoints

_TEXT_WIDTHS = checkpoints.TEXT_WIDTHS  # As they are before anything is lent.
START, END = "<|startoftext|>", "<|endoftext|>"
WORDS = ("cat", "dog", "red", "glass", "apple", "book", "a", "on", "of")


def write_checkpoint(path: Path, arch: Arch, seed: int = 0) -> Path:
    """Writes a checkpoint in one file."""
    save_file(random_tensors(arch, seed), path)
    return path


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
def _host_for_loras(arch: Arch) -> tuple[DiffusersHost, list[tuple[Parameter, Tensor]]]:
    made = load(arch)
    nets = [net for net in made.pipeline.components.values() if isinstance(net, Module)]
    return made, [(one, one.data) for net in nets for one in net.parameters()]


def with_loras(arch: Arch, loras: Sequence[tuple[Path, float]]) -> DiffusersHost:
    """Returns the one host of all tests of LoRAs, with these on it and none of an earlier call.

    The host loads a checkpoint anew for other LoRAs, which takes longest.
    """
    made, weights = _host_for_loras(arch)
    for parameter, value in weights:
        parameter.data = value
    add_loras(made.pipeline, read_loras(loras))
    return made


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
    widths = {shrunk(width): arch for width, arch in _TEXT_WIDTHS.items()}
    patch.setattr(checkpoints, "TEXT_WIDTHS", widths)
