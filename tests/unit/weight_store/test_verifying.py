"""Which bytes are trusted, and when they are read again."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import pytest
import torch
from hub_server import HubServer
from safetensors.torch import save
from small_weights import BIG, GOOD, NAME, TINY, left_over, spoilt, vouch, weight

from lib_layerdiffuse.errors import ChecksumError, DownloadError, WeightsNotFoundError
from lib_layerdiffuse.weights import checksums
from lib_layerdiffuse.weights.store import FileState, WeightStore


@pytest.mark.parametrize(
    "bad",
    [spoilt(GOOD), GOOD[:40], b"", GOOD + b"\0"],
    ids=["spoilt", "truncated", "empty", "longer"],
)
@pytest.mark.parametrize("sized", [True, False])
def test_bad_file_is_set_aside_and_fetched(
    folder: Path,
    server: HubServer,
    caplog: pytest.LogCaptureFixture,
    bad: bytes,
    sized: bool,
) -> None:
    (folder / NAME).write_bytes(bad)
    (folder / f"{NAME}.bad-1").write_text("an older one")
    path = WeightStore(folder).ensure(weight(GOOD, sized=sized))
    assert path.read_bytes() == GOOD
    assert (folder / f"{NAME}.bad-1").read_text() == "an older one"
    assert (folder / f"{NAME}.bad-2").read_bytes() == bad
    assert str(folder / NAME) in caplog.text
    assert "SHA256SUMS" in caplog.text


def test_bad_file_gives_way_to_a_good_one_elsewhere(
    folder: Path, extra: Path, server: HubServer
) -> None:
    (folder / NAME).write_bytes(spoilt(GOOD))
    (extra / NAME).write_bytes(GOOD)
    assert WeightStore(folder, extra_folders=[extra]).ensure(TINY) == extra / NAME
    assert left_over(folder) == [f"{NAME}.bad-1"]
    assert server.requests == []


def test_bad_file_stays_set_aside_if_the_download_fails(folder: Path, server: HubServer) -> None:
    (folder / NAME).write_bytes(spoilt(GOOD))
    server.status[NAME] = 404
    with pytest.raises(DownloadError):
        WeightStore(folder).ensure(TINY)
    assert left_over(folder) == [f"{NAME}.bad-1"]


@pytest.mark.parametrize("own", ["empty", "bad", "closed"])
@pytest.mark.parametrize("bad", [spoilt(GOOD), GOOD[:40]], ids=["spoilt", "truncated"])
def test_bad_file_in_an_extra_folder_is_refused_by_name(
    folder: Path, extra: Path, server: HubServer, bad: bytes, own: str
) -> None:
    (extra / NAME).write_bytes(bad)
    if own == "bad":
        (folder / NAME).write_bytes(bad)
    if own == "closed":
        (folder / ".layerdiffuse").write_text("a file in the way")
    with pytest.raises(ChecksumError) as error:
        WeightStore(folder, extra_folders=[extra]).ensure(TINY)
    assert str(extra / NAME) in error.value.message
    assert "sha256sum" in error.value.hint
    assert str(extra) in error.value.hint
    assert left_over(extra) == [NAME]
    assert server.requests == []


@pytest.mark.parametrize("form", ["{0}  {1}\n", "{0} *{1}\n", "{0}  ./{1}\r\n", "\ufeff{0}  {1}"])
def test_own_file_is_used_if_vouched_for(folder: Path, server: HubServer, form: str) -> None:
    own = save({"mine": torch.ones(3, 5)})
    (folder / NAME).write_bytes(own)
    vouch(folder / NAME, hashlib.sha256(own).hexdigest().upper(), form=form)
    store = WeightStore(folder)
    assert store.ensure(TINY).read_bytes() == own
    assert store.load(TINY)["mine"].shape == (3, 5)
    assert store.status(TINY).state is FileState.OWN
    assert server.requests == []


def test_list_made_by_sha256sum_is_understood(folder: Path) -> None:
    (folder / NAME).write_bytes(BIG)
    try:
        subprocess.run("sha256sum * > SHA256SUMS", shell=True, cwd=folder, check=True)
    except subprocess.CalledProcessError:
        pytest.skip("no sha256sum here")
    assert WeightStore(folder, offline=True).ensure(TINY) == folder / NAME


@pytest.mark.parametrize(
    "text",
    ["{wrong}  tiny.safetensors\n", "{right}  other.safetensors\n", "{right}\n", "\x00garbage\n"],
)
def test_own_file_is_refused_if_the_list_is_of_another(
    folder: Path, extra: Path, text: str
) -> None:
    own = save({"mine": torch.ones(3, 5)})
    (extra / NAME).write_bytes(own)
    right = hashlib.sha256(own).hexdigest()
    (extra / "SHA256SUMS").write_text(text.format(right=right, wrong="0" * 64))
    store = WeightStore(folder, extra_folders=[extra], offline=True)
    with pytest.raises(ChecksumError, match=NAME):
        store.ensure(TINY)
    assert store.verify(TINY).state is FileState.CORRUPT


def test_list_in_another_folder_does_not_count(folder: Path, extra: Path) -> None:
    (extra / NAME).write_bytes(BIG)
    vouch(extra / NAME)
    (extra / "SHA256SUMS").rename(folder / "SHA256SUMS")
    with pytest.raises(ChecksumError):
        WeightStore(folder, extra_folders=[extra], offline=True).ensure(TINY)


def test_released_file_is_good_whatever_the_list_says(folder: Path) -> None:
    (folder / NAME).write_bytes(GOOD)
    vouch(folder / NAME, "0" * 64)
    assert WeightStore(folder, offline=True).verify(TINY).state is FileState.PRESENT


def test_verified_file_is_not_read_again(folder: Path, hashed: list[Path]) -> None:
    (folder / NAME).write_bytes(GOOD)
    store = WeightStore(folder, offline=True)
    store.ensure(TINY)
    store.ensure(TINY)
    WeightStore(folder, offline=True).ensure(TINY)
    assert len(hashed) == 1


def test_downloaded_file_is_not_read_again(
    folder: Path, server: HubServer, hashed: list[Path]
) -> None:
    store = WeightStore(folder)
    waiting = WeightStore(folder)
    store.ensure(TINY)
    waiting.ensure(TINY)
    WeightStore(folder).ensure(TINY)
    assert hashed == []


def test_changed_file_is_read_again(folder: Path, hashed: list[Path]) -> None:
    (folder / NAME).write_bytes(GOOD)
    store = WeightStore(folder, offline=True)
    store.ensure(TINY)
    (folder / NAME).write_bytes(spoilt(GOOD))
    os.utime(folder / NAME, ns=(10**18, 10**18))
    for each in (store, WeightStore(folder, offline=True)):
        with pytest.raises(ChecksumError):
            each.ensure(TINY)
    assert len(hashed) == 2


def test_retargeted_symlink_is_read_again(folder: Path, extra: Path) -> None:
    for name, data in (("good", GOOD), ("bad", spoilt(GOOD))):
        (extra / name).write_bytes(data)
        os.utime(extra / name, ns=(10**18, 10**18))
    (folder / NAME).symlink_to(extra / "good")
    store = WeightStore(folder, offline=True)
    store.ensure(TINY)
    (folder / NAME).unlink()
    (folder / NAME).symlink_to(extra / "bad")
    with pytest.raises(ChecksumError):
        store.ensure(TINY)


@pytest.mark.parametrize("text", ["", "nonsense", "[1]", '{"a": 1, "b": [1, 2], "c": [1, 2, 3]}'])
def test_broken_memo_is_as_good_as_none(folder: Path, hashed: list[Path], text: str) -> None:
    (folder / NAME).write_bytes(GOOD)
    (folder / ".layerdiffuse").mkdir()
    (folder / ".layerdiffuse" / "verified.json").write_text(text)
    for _ in range(2):
        WeightStore(folder, offline=True).ensure(TINY)
    assert len(hashed) == 1


def test_memo_that_cannot_be_written_is_kept_in_memory(folder: Path, hashed: list[Path]) -> None:
    (folder / NAME).write_bytes(GOOD)
    (folder / ".layerdiffuse").write_text("a file in the way")
    store = WeightStore(folder, offline=True)
    store.ensure(TINY)
    store.ensure(TINY)
    assert len(hashed) == 1


def test_bad_file_in_a_folder_that_cannot_be_written_is_named(
    folder: Path, server: HubServer
) -> None:
    (folder / NAME).write_bytes(spoilt(GOOD))
    (folder / ".layerdiffuse").write_text("a file in the way")
    with pytest.raises(ChecksumError, match=NAME):
        WeightStore(folder).ensure(TINY)
    assert left_over(folder) == [NAME]


@pytest.fixture
def unreadable(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_path: Path) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(checksums, "sha256_of", refuse)


@pytest.mark.usefixtures("unreadable")
def test_file_that_cannot_be_read_is_left_alone(folder: Path, server: HubServer) -> None:
    (folder / NAME).write_bytes(GOOD)
    store = WeightStore(folder)
    with pytest.raises(WeightsNotFoundError, match=r"tiny.*Permission denied"):
        store.ensure(TINY)
    assert store.verify(TINY).state is FileState.CORRUPT
    assert left_over(folder) == [NAME]
