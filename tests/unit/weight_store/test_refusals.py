"""Where files come from, and what the store says where it cannot have one."""

from __future__ import annotations

import hashlib
import socket
import sys
from pathlib import Path

import pytest
from hub_server import HubServer
from huggingface_hub import constants
from small_weights import BIG, GOOD, LARGE, NAME, TINY, left_over, parts, spoilt

from lib_layerdiffuse.errors import ChecksumError, DownloadError, WeightsNotFoundError
from lib_layerdiffuse.released import HUB_REPO, HUB_REVISION
from lib_layerdiffuse.weights import hub
from lib_layerdiffuse.weights.download import Download
from lib_layerdiffuse.weights.store import WeightStore


def test_mirror_is_read_at_call_time(
    folder: Path, server: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = WeightStore(folder)
    monkeypatch.delenv("HF_ENDPOINT")
    assert store.url(TINY) == f"{constants.ENDPOINT}/{HUB_REPO}/resolve/{HUB_REVISION}/{NAME}"
    with HubServer({NAME: GOOD}) as mirror:
        monkeypatch.setenv("HF_ENDPOINT", mirror.url + "/")
        assert store.url(TINY) == f"{mirror.url}/{HUB_REPO}/resolve/{HUB_REVISION}/{NAME}"
        store.ensure(TINY)
        assert len(mirror.gets) == 1
    assert server.gets == []


def test_token_is_sent_to_the_hub_but_not_to_its_cdn(
    folder: Path, server: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    with HubServer({NAME: GOOD}) as cdn:
        server.redirect = cdn.url
        assert WeightStore(folder).ensure(TINY).read_bytes() == GOOD
        assert server.gets[0].headers["authorization"] == "Bearer hf_secret"
        assert len(cdn.gets) == 1
        assert "authorization" not in cdn.gets[0].headers


def test_cdn_is_asked_for_the_rest_only(folder: Path, server: HubServer) -> None:
    with HubServer({NAME: BIG}, cuts=[400_000]) as cdn:
        server.files[NAME] = BIG
        server.redirect = cdn.url
        assert WeightStore(folder).ensure(LARGE).read_bytes() == BIG
        assert "range" in cdn.gets[1].headers


def test_another_repo_and_revision(folder: Path, server: HubServer) -> None:
    WeightStore(folder, repo="some/mirror", revision="main").ensure(TINY)
    assert server.gets[0].path == f"/some/mirror/resolve/main/{NAME}"


@pytest.mark.parametrize(
    ("status", "hint"), [(401, "HF_TOKEN"), (403, "HF_TOKEN"), (404, "HF_ENDPOINT"), (410, "later")]
)
def test_refusal_is_named_and_not_retried(
    folder: Path, server: HubServer, status: int, hint: str
) -> None:
    server.status[NAME] = status
    with pytest.raises(DownloadError, match=rf"answers HTTP {status} \(no luck\)") as error:
        WeightStore(folder).ensure(TINY)
    assert server.url in error.value.message
    assert hint in error.value.hint
    assert len(server.gets) == 1
    assert left_over(folder) == []


def test_server_error_is_retried(folder: Path, server: HubServer) -> None:
    server.status[NAME] = 503
    with pytest.raises(DownloadError, match="HTTP 503"):
        WeightStore(folder).ensure(TINY)
    assert len(server.gets) == hub.RETRIES + 1


def test_server_down(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{port}")
    with pytest.raises(DownloadError, match="tiny") as error:
        WeightStore(folder).ensure(TINY)
    assert "network" in error.value.hint
    assert str(folder) in error.value.hint


def test_wrong_bytes_are_fetched_twice_and_refused(folder: Path, server: HubServer) -> None:
    server.files[NAME] = spoilt(GOOD)
    with pytest.raises(ChecksumError, match=TINY.sha256) as error:
        WeightStore(folder).ensure(TINY)
    assert hashlib.sha256(spoilt(GOOD)).hexdigest() in error.value.message
    assert NAME in error.value.message
    assert len(server.gets) == 2
    assert left_over(folder) == []
    assert not parts(folder)


def test_wrong_size_is_refused_before_the_bytes(folder: Path, server: HubServer) -> None:
    server.files[NAME] = BIG
    with pytest.raises(ChecksumError, match=f"has {len(BIG)} bytes instead of {len(GOOD)}"):
        WeightStore(folder).ensure(TINY)
    assert parts(folder)[0].stat().st_size == 0
    assert left_over(folder) == []


def test_too_little_space_is_said_before_the_bytes(
    folder: Path, server: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 60}))
    with pytest.raises(DownloadError, match=f"{len(GOOD)} bytes have.* 60 bytes are free") as error:
        WeightStore(folder).ensure(TINY)
    assert f"Free {len(GOOD) - 60} bytes more" in error.value.hint
    assert parts(folder)[0].stat().st_size == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_disk_that_fills_up_says_how_much_is_missing(folder: Path, server: HubServer) -> None:
    url = WeightStore(folder).url(TINY)
    job = Download(url, folder / NAME, Path("/dev/full"), TINY.size, lambda *_: None)
    with pytest.raises(DownloadError, match="The disk is full") as error:
        hub.fetch(job)
    assert str(folder) in error.value.message
    assert str(len(GOOD)) in error.value.hint


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX limits")
def test_write_that_fails_half_way_leaves_nothing_usable(folder: Path, server: HubServer) -> None:
    import resource

    server.files[NAME] = BIG
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, limits[1]))
    try:
        with pytest.raises(DownloadError, match=r"tiny\.safetensors could not be written"):
            WeightStore(folder).ensure(LARGE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert left_over(folder) == []
    assert WeightStore(folder).ensure(LARGE).read_bytes() == BIG
    assert server.gets[1].headers["range"] == "bytes=500000-"


def test_folder_that_cannot_be_written(tmp_path: Path, server: HubServer) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(DownloadError, match="Nothing can be written to") as error:
        WeightStore(tmp_path / "file").ensure(TINY)
    assert "by hand" in error.value.hint
    assert server.gets == []


def go_offline(how: str, monkeypatch: pytest.MonkeyPatch) -> bool:
    if how == "environment":
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    elif how == "library":
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return how == "switch"


@pytest.mark.parametrize("how", ["switch", "environment", "library"])
def test_offline_names_file_folders_and_address(
    folder: Path, extra: Path, server: HubServer, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    offline = go_offline(how, monkeypatch)
    store = WeightStore(folder, extra_folders=[extra], offline=offline)
    with pytest.raises(WeightsNotFoundError) as error:
        store.ensure(TINY)
    assert all(text in error.value.message for text in (NAME, str(folder), str(extra)))
    assert store.url(TINY) in error.value.hint
    assert server.requests == []
    (folder / NAME).write_bytes(GOOD)
    assert store.ensure(TINY) == folder / NAME


def test_offline_refuses_a_bad_file_and_leaves_it(folder: Path, server: HubServer) -> None:
    (folder / NAME).write_bytes(spoilt(GOOD))
    with pytest.raises(ChecksumError, match=NAME):
        WeightStore(folder, offline=True).ensure(TINY)
    assert left_over(folder) == [NAME]
    assert server.requests == []
