"""CLIP's tokenizer for checkpoints in one file, which do not carry it.

Its vocabulary follows from a list of merges, half a megabyte. The list is taken from the open_clip
package where that is installed, else from the Hugging Face cache or Hub, and verified.
Source: the byte-pair encoding of OpenAI's CLIP.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from importlib.util import find_spec
from pathlib import Path

from huggingface_hub import hf_hub_download

from ...errors import ChecksumError, DownloadError

HUB_REPO = "openai/clip-vit-large-patch14"
MERGES_SHA256 = "f61f2adf497e6f5357c347aeb4646fabe82f341e946de5bdec5d2858e41bef4a"
"""Of the merges in order, one on a line."""
MERGES = 48_894
MAX_TOKENS = 77

_START, _END = "<|startoftext|>", "<|endoftext|>"


def write_tokenizer(folder: Path, pad_token: str = _END) -> None:
    """Writes the tokenizer in the transformers package's layout.

    Args:
        folder: Made if it is not there.
        pad_token: Fills short prompts: the end token for CLIP ViT-L, "!" for OpenCLIP ViT-bigG.

    Raises:
        DownloadError: The merges are not on this machine and cannot be had.
        ChecksumError: They are not CLIP's.
    """
    merges = _merges()
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = {token: number for number, token in enumerate(_vocabulary(merges))}
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    text = "\n".join(["#version: 0.2", *merges, ""])
    (folder / "merges.txt").write_text(text, encoding="utf-8")
    config = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": MAX_TOKENS,
        "bos_token": _START,
        "eos_token": _END,
        "unk_token": _END,
        "pad_token": pad_token,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")


def _merges() -> list[str]:
    lines = _text().split("\n")[1 : 1 + MERGES]
    found = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    if found != MERGES_SHA256:
        raise ChecksumError(
            f"Expected CLIP's merges with the SHA-256 {MERGES_SHA256}, got {found}.",
            f"Remove {HUB_REPO} from the Hugging Face cache and start again.",
        )
    return lines


def _text() -> str:
    package = find_spec("open_clip")
    for place in (package and package.submodule_search_locations) or ():
        packed = Path(place) / "bpe_simple_vocab_16e6.txt.gz"
        if packed.is_file():
            return gzip.decompress(packed.read_bytes()).decode("utf-8")
    try:
        return Path(hf_hub_download(HUB_REPO, "merges.txt")).read_text("utf-8")
    except Exception as error:  # It raises whatever its HTTP library does.
        raise DownloadError(
            f"Expected CLIP's tokenizer, merges.txt of {HUB_REPO}, on this machine or the Hugging "
            f"Face Hub, got: {error}.",
            "Connect to the network once, set HF_ENDPOINT to a mirror, install open_clip_torch, or "
            "give a diffusers folder, which has a tokenizer.",
        ) from error


def _vocabulary(merges: list[str]) -> list[str]:
    letters = _byte_letters()
    joined = ["".join(merge.split()) for merge in merges]
    return [*letters, *(f"{letter}</w>" for letter in letters), *joined, _START, _END]


def _byte_letters() -> list[str]:
    """Returns a printable letter for each of the 256 bytes, the printable bytes' own first."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = 256 - len(printable)
    return [chr(code) for code in printable] + [chr(256 + number) for number in range(others)]
