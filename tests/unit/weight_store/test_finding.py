"""Which files are found, loaded and listed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from hub_server import HubServer
from small_weights import GOOD, NAME, TINY, left_over, spoilt, vouch, weight

from lib_layerdiffuse.errors import ChecksumError
from lib_layerdiffuse.weights.store import FileState, WeightStore


def test_find_looks_in_the_own_folder_first(folder: Path, extra: Path) -> None:
    store = WeightStore(folder, extra_folders=[extra])
    assert store.find(TINY) is None
    (extra / NAME).write_bytes(GOOD)
    assert store.find(TINY) == extra / NAME
    (folder / NAME).write_bytes(GOOD)
    assert store.find(TINY) == folder / NAME


def test_symlink_is_followed_and_hashed(folder: Path, extra: Path) -> None:
    (extra / "blob").write_bytes(GOOD)
    (folder / NAME).symlink_to(extra / "blob")
    assert WeightStore(folder, offline=True).ensure(TINY) == folder / NAME


@pytest.mark.parametrize("suffix", [".ckpt", ".pt", ".bin"])
def test_other_formats_are_never_touched(folder: Path, server: HubServer, suffix: str) -> None:
    other = folder / f"tiny{suffix}"
    other.write_bytes(GOOD)
    os.utime(other, ns=(1, 1))
    store = WeightStore(folder)
    assert store.find(TINY) is None
    assert store.ensure(TINY) == folder / NAME
    assert other.read_bytes() == GOOD
    assert other.stat().st_atime_ns >= 1
    assert other.stat().st_mtime_ns == 1


def test_load_returns_the_tensors_on_the_cpu(folder: Path, server: HubServer) -> None:
    tensors = WeightStore(folder).load(TINY)
    assert list(tensors) == ["a"]
    assert tensors["a"].device.type == "cpu"
    assert torch.equal(tensors["a"], torch.arange(6.0).reshape(2, 3))


@pytest.mark.parametrize(
    "data",
    [b"not safetensors at all", GOOD[:-4], (10**12).to_bytes(8, "little")],
    ids=["text", "truncated", "huge header"],
)
def test_load_refuses_what_is_no_safetensors_file(folder: Path, data: bytes) -> None:
    (folder / NAME).write_bytes(data)
    with pytest.raises(ChecksumError, match=r"damaged or no safetensors file|cut short"):
        WeightStore(folder, offline=True).load(weight(data))


def test_status_lists_without_reading(folder: Path, server: HubServer, hashed: list[Path]) -> None:
    store = WeightStore(folder)
    missing = store.status(TINY)
    assert (missing.path, missing.state, missing.usable) == (None, FileState.MISSING, False)
    (folder / NAME).write_bytes(GOOD)
    assert store.status(TINY).state is FileState.PRESENT
    (folder / NAME).write_bytes(GOOD[:-1])
    corrupt = store.status(TINY)
    assert (corrupt.path, corrupt.state) == (folder / NAME, FileState.CORRUPT)
    assert f"{len(GOOD) - 1} bytes, not {len(GOOD)}" in corrupt.detail
    vouch(folder / NAME)
    assert store.status(TINY).state is FileState.OWN
    assert hashed == []
    assert server.requests == []


def test_status_with_hash_reads_every_byte_each_time(folder: Path, hashed: list[Path]) -> None:
    path = folder / NAME
    path.write_bytes(GOOD)
    store = WeightStore(folder)
    assert store.verify(TINY).detail == "the released file, verified"
    stamp = path.stat().st_mtime_ns
    path.write_bytes(spoilt(GOOD))
    os.utime(path, ns=(stamp, stamp))
    assert store.status(TINY).state is FileState.PRESENT
    assert store.status(TINY, check_hash=True).state is FileState.CORRUPT
    assert store.status(TINY).state is FileState.CORRUPT
    assert len(hashed) == 2
    assert left_over(folder) == [NAME]
