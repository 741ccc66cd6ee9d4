"""Safetensors files, opened after a look at their bytes; a name's suffix says nothing.

The one place that opens such files, so that whatever else stands there is called what it is,
and no other format is ever loaded.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import WeightsError

Shapes = Mapping[str, tuple[int, ...]]

CONVERT = "Convert it to safetensors: other formats can run code of their maker when loaded."
AGAIN = "Download it again."

_LENGTH_BYTES = 8
_LONGEST_HEADER = 100_000_000
_BROKEN = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)
_LOOK = 512
_OTHERS = (
    (rb"\Z", "is empty", AGAIN),
    (
        rb"version https://git-lfs",
        "is a Git LFS pointer, not the file itself",
        "Run `git lfs pull` in its folder, or download the file itself.",
    ),
    (
        rb"(?:\xef\xbb\xbf)?\s*<[!?a-zA-Z]",
        "is a web page",
        "Download it again; the site may want you to log in first.",
    ),
    (rb"GGUF", "is a GGUF file", "Choose one in safetensors."),
    # Zip archives of PyTorch, protocols 2 to 5, and protocol 0.
    (rb"PK\x03\x04|\x80[\x02-\x05]|\(?c[\w.]+\r?\n[\w.]+\r?\n", "is a pickle", CONVERT),
)


@dataclass(frozen=True)
class Header:
    """What stands at the beginning of a safetensors file.

    Attributes:
        shapes: Each tensor's.
        metadata: Texts by name, which its maker chose.
    """

    shapes: Shapes
    metadata: Mapping[str, str] = field(default_factory=dict)


class _CutShort(ValueError):
    """Bytes are missing at the end."""


def read_header(path: Path, name: str = "") -> Header:
    """Returns the header of a safetensors file; nothing else is read.

    The library's own reader takes seconds for a checkpoint in the versions that WebUIs have.

    Args:
        path: The file.
        name: What messages call it; its name, where it is left out.

    Raises:
        WeightsError: It is none, or damaged, or cannot be read.

    Source: "Format" in the README of github.com/huggingface/safetensors.
    """
    name = name or path.name
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
            if length > _LONGEST_HEADER:
                raise ValueError("its header is too long")
            header = json.loads(file.read(length))
        return _read(header, path.stat().st_size - _LENGTH_BYTES - length)
    except OSError as error:
        raise WeightsError(
            f"{name} cannot be read: {error.strerror or error}.", "Allow reading it."
        ) from error
    except _BROKEN as error:
        raise _refusal(path, name, error) from error


def load_tensors(path: Path, name: str = "") -> dict[str, Any]:
    """Returns the tensors of a safetensors file by name, on the CPU and memory-mapped.

    Raises:
        WeightsError: As `read_header`.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    read_header(path, name)
    try:
        return load_file(path, device="cpu")
    except OSError as error:
        raise WeightsError(
            f"{name or path.name} cannot be read: {error.strerror or error}.", "Allow reading it."
        ) from error
    except (SafetensorError, *_BROKEN) as error:
        raise _refusal(path, name or path.name, error) from error


def _read(header: dict[str, Any], size: int) -> Header:
    metadata = header.pop("__metadata__", None) or {}
    end = max((int(tensor["data_offsets"][1]) for tensor in header.values()), default=0)
    shapes = {key: tuple(map(int, tensor["shape"])) for key, tensor in header.items()}
    if size < end:
        raise _CutShort(f"{end - size} bytes are missing")
    if size > end:
        raise ValueError("it is longer than it should be")
    return Header(shapes, {str(key): str(text) for key, text in dict(metadata).items()})


def _refusal(path: Path, name: str, error: Exception) -> WeightsError:
    """Returns what to raise for a file that is no whole safetensors file."""
    what = what_else(path)
    if what is not None:
        return WeightsError(f"{name} {what[0]}.", what[1])
    if isinstance(error, _CutShort):
        return WeightsError(f"{name} is cut short: {error} at its end.", AGAIN)
    return WeightsError(f"{name} is damaged or no safetensors file.", AGAIN)


def what_else(path: Path) -> list[str] | None:
    """Returns what a file is that is often met in a weight file's place, and what to do.

    None for anything else, and for a file that cannot be read.
    """
    try:
        with path.open("rb") as file:
            start = file.read(_LOOK)
    except OSError:
        return None
    return next((told for pattern, *told in _OTHERS if re.match(pattern, start)), None)
