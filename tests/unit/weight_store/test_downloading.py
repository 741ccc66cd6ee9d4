"""Downloads that are whole, cut, continued, or made by two at a time."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hub_server import HubServer
from huggingface_hub import constants
from small_weights import BIG, GOOD, LARGE, NAME, TINY, begin, child, left_over, parts, weight
from thinned import thinned

from lib_layerdiffuse.errors import DownloadError
from lib_layerdiffuse.released import HUB_REPO, HUB_REVISION
from lib_layerdiffuse.weights import hub
from lib_layerdiffuse.weights.download import Broken
from lib_layerdiffuse.weights.store import FileState, WeightStore


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


@pytest.mark.parametrize("sized", thinned([True, False], 2))
def test_progress_comes_every_second(
    folder: Path, server: HubServer, monkeypatch: pytest.MonkeyPatch, sized: bool
) -> None:
    """Ten times as fast as people see it."""
    assert hub.REPORT_EVERY < 1
    monkeypatch.setattr(hub, "REPORT_EVERY", hub.REPORT_EVERY / 10)
    server.files[NAME] = BIG
    server.drip = (150_000, 0.025)
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


@pytest.mark.slow
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


@pytest.mark.slow  # It starts two interpreters.
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
    server.drip = (100_000, 0.1)  # The one that waits says so once a second.
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
