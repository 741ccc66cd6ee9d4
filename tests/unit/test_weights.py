"""The weight store against a Hub on the loopback interface."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hub_server import HubServer
from huggingface_hub import constants
from safetensors.torch import save

from lib_layerdiffuse.errors import ChecksumError, DownloadError, WeightsNotFoundError
from lib_layerdiffuse.released import HUB_REPO, HUB_REVISION, WeightFile
from lib_layerdiffuse.weights import checksums, hub
from lib_layerdiffuse.weights.download import Broken, Download
from lib_layerdiffuse.weights.store import FileState, WeightStore

ROOT = Path(__file__).parents[2]
NAME = "tiny.safetensors"
GOOD = save({"a": torch.arange(6.0).reshape(2, 3)})
BIG = random.Random(0).randbytes(1_500_000)


def weight(data: bytes, stem: str = "tiny", *, sized: bool = True) -> WeightFile:
    return WeightFile(stem, hashlib.sha256(data).hexdigest(), len(data) if sized else None)


TINY = weight(GOOD)
LARGE = weight(BIG)


def spoilt(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


def vouch(path: Path, sha256: str | None = None, form: str = "{0}  {1}\n") -> None:
    sha256 = sha256 or hashlib.sha256(path.read_bytes()).hexdigest()
    (path.parent / "SHA256SUMS").write_text(form.format(sha256, path.name))


def left_over(folder: Path) -> list[str]:
    """Returns the names that a user, or another program, sees in the folder."""
    return sorted(p.name for p in folder.iterdir() if p.name != ".layerdiffuse")


def parts(folder: Path) -> list[Path]:
    return list((folder / ".layerdiffuse").glob("*.part"))


def begin(folder: Path, data: bytes) -> None:
    """Leaves a partial download of TINY behind."""
    (folder / ".layerdiffuse").mkdir()
    (folder / ".layerdiffuse" / f"{NAME}.{TINY.sha256[:8]}.part").write_bytes(data)


@pytest.fixture(autouse=True)
def _env(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_HUB_OFFLINE", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(hub, "RETRY_WAIT", 0.01)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with HubServer({NAME: GOOD}) as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "models" / "layer_model"
    path.mkdir(parents=True)
    return path


@pytest.fixture
def extra(tmp_path: Path) -> Path:
    path = tmp_path / "elsewhere"
    path.mkdir()
    return path


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Paths whose bytes were read for hashing."""
    seen: list[Path] = []
    real = checksums.sha256_of

    def count(path: Path) -> str:
        seen.append(path)
        return real(path)

    monkeypatch.setattr(checksums, "sha256_of", count)
    return seen


def child(folder: Path, data: bytes, endpoint: str) -> subprocess.Popen[str]:
    """Starts another Python that ensures a file of these bytes and prints its path."""
    file = weight(data)
    code = (
        "import sys; from pathlib import Path\n"
        "from lib_layerdiffuse.methods import WeightFile\n"
        "from lib_layerdiffuse.weights.store import WeightStore\n"
        "folder, stem, sha, size = sys.argv[1:]\n"
        "print(WeightStore(Path(folder)).ensure(WeightFile(stem, sha, int(size))))\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code, str(folder), file.stem, file.sha256, str(file.size)],
        cwd=ROOT,
        env=os.environ | {"HF_ENDPOINT": endpoint},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


# Finding


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


# Downloading


def test_download_lands_whole_and_alone(folder: Path, server: HubServer) -> None:
    store = WeightStore(folder)
    path = store.ensure(TINY)
    assert path == folder / NAME
    assert path.read_bytes() == GOOD
    assert left_over(folder) == [NAME]
    assert not parts(folder)
    assert not (Path(constants.HF_HUB_CACHE) / f"models--{HUB_REPO.replace('/', '--')}").exists()
    assert [r.path for r in server.gets] == [f"/{HUB_REPO}/resolve/{HUB_REVISION}/{NAME}"]
    assert store.ensure(TINY) == path
    assert len(server.gets) == 1


def test_missing_folder_is_made(tmp_path: Path, server: HubServer) -> None:
    assert WeightStore(tmp_path / "new" / "deep").ensure(TINY).read_bytes() == GOOD


@pytest.mark.parametrize("sized", [True, False])
def test_progress_comes_every_second(folder: Path, server: HubServer, sized: bool) -> None:
    server.files[NAME] = BIG
    server.drip = (150_000, 0.25)
    seen: list[tuple[float, str, int, int | None]] = []
    store = WeightStore(folder, on_progress=lambda *a: seen.append((time.monotonic(), *a)))
    store.ensure(weight(BIG, sized=sized))
    times, names, done, totals = zip(*seen, strict=True)
    assert set(names) == {NAME}
    assert set(totals) == {len(BIG)}
    assert list(done) == sorted(done)
    assert done[0] == 0
    assert done[-1] == len(BIG)
    assert len(set(done)) >= 4
    assert max(b - a for a, b in pairwise(times)) < 1.2


def test_progress_may_stop_the_download_and_it_goes_on(folder: Path, server: HubServer) -> None:
    server.files[NAME] = BIG

    class Stop(Exception):
        pass

    def stop(_name: str, done: int, _total: int | None) -> None:
        if done:
            raise Stop

    with pytest.raises(Stop):
        WeightStore(folder, on_progress=stop).ensure(LARGE)
    assert left_over(folder) == []
    (part,) = parts(folder)
    done = part.stat().st_size
    assert 0 < done < len(BIG)
    assert WeightStore(folder).ensure(LARGE).read_bytes() == BIG
    assert server.gets[-1].headers["range"] == f"bytes={done}-"


def test_connection_cut_half_way_is_continued_in_the_same_run(
    folder: Path, server: HubServer
) -> None:
    server.files[NAME] = BIG
    server.cuts = [400_000, 400_000]
    assert WeightStore(folder).ensure(LARGE).read_bytes() == BIG
    first, second, third = (int(r.headers.get("range", "bytes=0-")[6:-1]) for r in server.gets)
    assert 0 == first < second <= 400_000
    assert second < third <= 800_000


def test_connection_always_cut_gives_up_and_keeps_the_part(folder: Path, server: HubServer) -> None:
    server.cuts = [40] + [0] * 20
    with pytest.raises(DownloadError, match=r"tiny\.safetensors could not be downloaded") as error:
        WeightStore(folder).ensure(TINY)
    assert "by hand" in error.value.hint
    assert left_over(folder) == []
    server.cuts = []
    assert WeightStore(folder).ensure(TINY).read_bytes() == GOOD


def test_body_that_ends_early_without_an_error_is_continued(
    folder: Path, server: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = hub._guarded

    def quiet(chunks: Iterator[bytes]) -> Iterator[bytes]:  # as urllib3 1 reads a cut body
        with contextlib.suppress(Broken):
            yield from real(chunks)

    monkeypatch.setattr(hub, "_guarded", quiet)
    server.files[NAME] = BIG
    server.cuts = [400_000]
    assert WeightStore(folder).ensure(LARGE).read_bytes() == BIG
    assert "range" in server.gets[1].headers


def test_answer_from_another_byte_on_is_not_used(folder: Path, server: HubServer) -> None:
    begin(folder, GOOD[:20])
    server.shift = 3
    with pytest.raises(DownloadError, match="asked for bytes from 20 on, got 'bytes 23-"):
        WeightStore(folder).ensure(TINY)
    assert parts(folder)[0].read_bytes() == GOOD[:20]


def test_server_without_ranges_starts_over(folder: Path, server: HubServer) -> None:
    server.files[NAME] = BIG
    server.ranges = False
    server.cuts = [400_000]
    assert WeightStore(folder).ensure(LARGE).read_bytes() == BIG
    assert "range" in server.gets[1].headers


def test_killed_process_is_continued_by_the_next(folder: Path, server: HubServer) -> None:
    server.files[NAME] = BIG
    server.drip = (50_000, 0.1)
    process = child(folder, BIG, server.url)
    try:
        deadline = time.monotonic() + 30
        while not (parts(folder) and parts(folder)[0].stat().st_size > 300_000):
            assert process.poll() is None, process.stderr and process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert left_over(folder) == []
    store = WeightStore(folder)
    done = parts(folder)[0].stat().st_size
    status = store.status(LARGE)
    assert (status.state, status.path) == (FileState.MISSING, None)
    assert str(done) in status.detail
    server.drip = None
    assert store.ensure(LARGE).read_bytes() == BIG
    assert [r.headers.get("range") for r in server.gets] == [None, f"bytes={done}-"]


@pytest.mark.parametrize("sized", [True, False])
def test_part_that_is_already_whole_is_not_fetched_again(
    folder: Path, server: HubServer, sized: bool
) -> None:
    begin(folder, GOOD)
    assert WeightStore(folder).ensure(weight(GOOD, sized=sized)).read_bytes() == GOOD
    assert [r.headers.get("range") for r in server.gets] == (
        [] if sized else [f"bytes={len(GOOD)}-"]
    )


def test_part_longer_than_the_file_is_thrown_away(folder: Path, server: HubServer) -> None:
    begin(folder, BIG)
    assert WeightStore(folder).ensure(TINY).read_bytes() == GOOD


def test_spoilt_part_is_noticed_and_fetched_anew(folder: Path, server: HubServer) -> None:
    begin(folder, b"x" * 20)
    assert WeightStore(folder).ensure(TINY).read_bytes() == GOOD
    assert [r.headers.get("range") for r in server.gets] == ["bytes=20-", None]


def test_two_processes_download_once(folder: Path, server: HubServer) -> None:
    server.files[NAME] = BIG
    server.drip = (100_000, 0.15)
    both = [child(folder, BIG, server.url) for _ in range(2)]
    for process in both:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        assert out.strip() == str(folder / NAME)
    assert len(server.gets) == 1
    assert left_over(folder) == [NAME]


def test_two_threads_download_once_and_the_waiter_reports(folder: Path, server: HubServer) -> None:
    server.files[NAME] = BIG
    server.drip = (100_000, 0.2)
    reports: dict[int, list[int]] = {0: [], 1: []}

    def run(n: int) -> None:
        WeightStore(folder, on_progress=lambda _n, done, _t: reports[n].append(done)).ensure(LARGE)

    threads = [threading.Thread(target=run, args=(n,)) for n in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert (folder / NAME).read_bytes() == BIG
    assert len(server.gets) == 1
    assert all(reports.values())


# Where from, and who asks


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


# Refusals


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


# Offline


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


# Verifying


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


# Loading and listing


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
    with pytest.raises(ChecksumError, match="damaged or no safetensors file"):
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
