"""Malformed inputs, drawn from a seeded generator: bytes, texts, numbers, JSON, tensors."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from random import Random
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

FOREIGN = (
    b"",
    b"\0",
    b"text",
    b"PK\x03\x04" + bytes(60),
    b"\x80\x02}q\x00.",
    b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
    b"<!DOCTYPE html><html><body>Log in</body></html>",
    b"GGUF" + bytes(60),
    b"\x89PNG\r\n\x1a\n",
    b"\xff\xd8\xff\xe0" + bytes(40),
    b"%PDF-1.7\n",
    b"\xff" * 64,
    struct.pack("<Q", 2**63) + b"{}",
    struct.pack("<Q", 4) + b"null",
    struct.pack("<Q", 2) + b"[]",
    struct.pack("<Q", 20000) + b"[" * 20000,
)
"""What stands in a file's place when it is another one."""

ODD_TEXTS = (
    "",
    " ",
    "\n",
    "\t\r\n",
    "None",
    "null",
    "-",
    "--",
    "::",
    ":1e999",
    ":nan",
    "a:-inf",
    "\ud800",
    "\udcff\udcfe",
    "\u202eabc",
    "e\u0301\u0300" * 9,
    "⛵" * 40,
    "ﷺ" * 20,
    "%s%n{0}{x}",
    "$HOME `id` ; '\"",
    "../../../../etc/passwd",
    "~nobody/x",
    "C:\\x\\y.png",
    "//server/share/a.png",
    "file:///etc/passwd",
    "http://[::1",
    "data:image/png;base64,",
    "a" * 300,
    "x" * 5000,
    " " * 20000,
    "(" * 3000,
    "[" * 3000,
    "[a:" * 2000,
    "\\" * 999,
)
_PIECES = (
    *("a", "red apple", " ", ",", "\n", "AND", "BREAK", "and", " AND ", " :0.5", ":1.3", ":-1"),
    *("(", ")", "[", "]", "|", ":", "::", "\\", "\\(", "\\|", "<lora:x:1>", "<", ">", "⛵", "\0"),
    *("[a:b:.5]", "[a:b:5e-1]", "[a:b:-1]", "[a|b|]", "(a:1.2)", "(a:1e99)", "[a:b:1e400]", "{x}"),
    *(":9999999999999999999999", "(((", ")))", "[[", "]]", "#", "\ud83d", "__wild__", "\u00a0"),
)
_NUMBERS = (
    *("nan", "inf", "-inf", "-0", "0", "1", "-1", "1e999", "-1e999", "1e-999", "0x10", "1_0", "٣"),
    *("½", "", " ", "1,5", "1.5", "True", "1e3", "+2", "1j", "99999999999999999999", "9" * 5000),
    *("1x1", "64x", "x64", "64x64x64", "0x0", "64X64", "64×64", "100000x100000", "63", "64.0"),
)
_LEAVES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 64, 1.5, math.nan, math.inf, -math.inf, 10**400, 1e308),
    *("", "1", "true", "joint_sd15", "fg", "\ud800", "x" * 3000, [], {}, [[]], {"": None}),
)


def text(rng: Random) -> str:
    """Returns a text that a prompt, a name or a value may be."""
    if rng.random() < 0.4:
        return rng.choice(ODD_TEXTS)
    return "".join(rng.choice(_PIECES) for _ in range(rng.randint(1, 12)))


def argument(rng: Random) -> str:
    """Returns a text that the system lets into a command's arguments."""
    return text(rng).replace("\0", "").replace("\ud800", "\udc80").replace("\ud83d", "\udcbd")


def number(rng: Random) -> str:
    """Returns what stands where a number is asked for."""
    return rng.choice(_NUMBERS) if rng.random() < 0.8 else argument(rng)


def value(rng: Random, depth: int = 3) -> Any:
    """Returns what JSON can hold, and now and then what it cannot."""
    kind = rng.random()
    if depth and kind < 0.12:
        return [value(rng, depth - 1) for _ in range(rng.randint(0, 4))]
    if depth and kind < 0.24:
        return {text(rng)[:20]: value(rng, depth - 1) for _ in range(rng.randint(0, 4))}
    if kind < 0.27:
        return _nested(rng.choice((10, 900, 5000)))
    return rng.choice(_LEAVES) if kind < 0.8 else text(rng)


def _nested(depth: int) -> list[Any]:
    inner: list[Any] = []
    for _ in range(depth):
        inner = [inner]
    return inner


def spoilt(rng: Random, data: bytes) -> bytes:
    """Returns a file's bytes, changed in one way or another."""
    if not data or rng.random() < 0.2:
        return rng.choice(FOREIGN)
    kind, place = rng.randrange(6), rng.randrange(len(data))
    if kind == 0:
        return data[:place]
    if kind == 1:
        return data + rng.choice(FOREIGN)
    if kind == 2:
        return data[:place] + rng.randbytes(rng.randint(1, 64)) + data[place:]
    if kind == 3:
        return data[: min(place, 200)] + data[min(place, 200) + rng.randint(1, 32) :]
    spoilt = bytearray(data)
    near = len(data) if kind == 4 else min(len(data), 200)
    for _ in range(rng.randint(1, 8)):
        spoilt[rng.randrange(near)] = rng.randrange(256)
    return bytes(spoilt)


def spoilt_json(rng: Random, data: bytes) -> bytes:
    """Returns a JSON file's bytes with another value in it, or as `spoilt` does."""
    if rng.random() < 0.25:
        return spoilt(rng, data)
    found = json.loads(data)
    for _ in range(rng.randint(1, 3)):
        key = rng.choice(list(found)) if found else "x"
        if rng.random() < 0.3:
            found.pop(key, None)
        else:
            found[key] = value(rng, 1)
    try:
        return json.dumps(found).encode()
    except (RecursionError, UnicodeEncodeError):
        return b"[" * 9000


def spoilt_tensors(rng: Random, tensors: Mapping[str, Tensor]) -> bytes:
    """Returns a safetensors file with other tensors than it should have."""
    kind = rng.random()
    if kind < 0.3:
        return spoilt(rng, save(dict(tensors)))
    if kind < 0.45:
        return _spoilt_header(rng, save(dict(tensors)))
    changed = dict(tensors)
    for _ in range(rng.randint(1, 3)):
        if changed:
            _change_one(rng, changed)
    metadata = {_utf8(argument(rng)[:50]): "x"} if rng.random() < 0.1 else None
    return save({key: one.contiguous() for key, one in changed.items()}, metadata)


def _utf8(words: str) -> str:
    return words.encode("utf-8", "replace").decode()


def _change_one(rng: Random, tensors: dict[str, Tensor]) -> None:
    key = rng.choice(list(tensors))
    one = tensors[key]
    kind = rng.randrange(9)
    if kind == 0:
        del tensors[key]
    elif kind == 1:
        tensors[_utf8(argument(rng)[:60])] = tensors.pop(key)
    elif kind == 2:
        dtype = one.dtype if one.is_floating_point() else torch.float32  # An earlier change's.
        odd = rng.choice((math.nan, math.inf, -math.inf, 1e30))
        tensors[key] = torch.full_like(one, odd, dtype=dtype)
    elif kind == 3:
        tensors[key] = one.unsqueeze(0)
    elif kind == 4:
        tensors[key] = one[..., :0] if one.ndim else one
    elif kind == 5:
        tensors[key] = torch.zeros(rng.choice(((), (1,), (0,), (3, 5), (4, 8, 8), (2, 4, 8, 8))))
    elif kind == 6:
        types = (torch.int64, torch.uint8, torch.bool, torch.float16, torch.bfloat16, torch.float64)
        tensors[key] = one.nan_to_num(0, 0, 0).to(rng.choice(types))
    elif kind == 7:
        tensors[f"{key}.more"] = one.clone()
    else:
        tensors[key] = one.flatten()


def _spoilt_header(rng: Random, data: bytes) -> bytes:
    length = int.from_bytes(data[:8], "little")
    header, rest = json.loads(data[8 : 8 + length]), data[8 + length :]
    for _ in range(rng.randint(1, 2)):
        key = rng.choice(list(header) or ["x"])
        field = rng.choice(("dtype", "shape", "data_offsets", "more"))
        if isinstance(header.get(key), dict) and rng.random() < 0.7:
            header[key][field] = value(rng, 1)
        else:
            header[rng.choice((key, "__metadata__"))] = value(rng, 1)
    try:
        made = json.dumps(header).encode()
    except (RecursionError, UnicodeEncodeError):
        made = b"[" * 5000
    return struct.pack("<Q", len(made)) + made + rest
