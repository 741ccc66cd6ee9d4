"""Runs of many rows: nothing twice, nothing lost, whatever happens meanwhile."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, deque
from pathlib import Path
from types import MappingProxyType

import batch_run
import numpy as np
import pytest
from batch_run import CRASHES, BrokenPool, CrashingPool, FullDiskPool, KilledPool, results, rows

from lib_layerdiffuse.batch import worker as working
from lib_layerdiffuse.batch.driver import Driver, works
from lib_layerdiffuse.batch.ledger import Ledger
from lib_layerdiffuse.batch.places import LocalPlace, RemotePlace, place_at
from lib_layerdiffuse.batch.pools import Gone
from lib_layerdiffuse.batch.processes import ProcessPool
from lib_layerdiffuse.batch.requests import Checked, Request
from lib_layerdiffuse.batch.results import Effort, MadeFile, write_row
from lib_layerdiffuse.batch.runs import Rules, held, run, status_of
from lib_layerdiffuse.batch.worker import Answer, Worker
from lib_layerdiffuse.errors import HostError, OutputError, SettingsError
from lib_layerdiffuse.imaging.coverage import measure
from lib_layerdiffuse.imaging.images import to_u8
from lib_layerdiffuse.imaging.png import png_bytes
from lib_layerdiffuse.imaging.reading import read_image
from lib_layerdiffuse.standalone.models import Models

RULES = Rules(most=4, tries=1, again=False)
BAD = MappingProxyType({"error": "CodecError", "message": "bad", "hint": ""})


class Pool:
    """Workers that answer as they are told, in this process.

    Args:
        answer: Returns what comes of a task, also for a worker that dies of it.
    """

    def __init__(self, answer):
        self.answer, self.tasks = answer, []
        self._running = deque()

    def has_room(self, *, by_itself):
        return len(self._running) < (1 if by_itself else 2)

    def submit(self, task, *, by_itself):
        assert self.has_room(by_itself=by_itself)
        self.tasks.append((tuple(row.id for row in task.requests), set(task.wanted), by_itself))
        self._running.append(task)

    def answers(self, timeout):
        answers = {task.number: self.answer(task) for task in self._running}
        dead = Gone.DIED in answers.values()
        found = [(number, Gone.DIED if dead else answer) for number, answer in answers.items()]
        self._running.clear()
        return found

    def close(self):
        pass


def request(name: str) -> Request:
    return Request(name, int(name), {"seed": 1}, True, ("a", "b", "c"), 1)


def row_of(one: Request) -> dict:
    return {"id": one.id, "line": one.line, "files": [], "error": None}


class Rig:
    """A run over requests of one group, whose workers do as they are told."""

    def __init__(self, folder: Path, count: int = 6):
        self.place = LocalPlace(str(folder))
        self.place.prepare()
        self.requests = [request(str(number)) for number in range(count)]

    def run(self, answer, **more) -> Pool:
        pool = Pool(answer)
        self.ledger = Ledger(self.place)
        driver = Driver(self.place, self.ledger, pool, tries=2, on_row=lambda _: None, **more)
        try:
            driver.run(works(self.requests, self.ledger, 3))
        finally:
            self.ledger.close()
        return pool

    def write(self, one: Request) -> dict:
        return write_row(self.place, one, [], Effort(0, 0, 1, 0))

    def well(self, task) -> Answer:
        return Answer([self.write(one) for one in task.requests if one.id in task.wanted])

    def failed(self) -> set[str]:
        return {one for one in self.ledger.rows if self.ledger.failed(one)}


class TestDriver:
    def test_rows_of_a_group_go_together(self, tmp_path):
        rig = Rig(tmp_path)
        pool = rig.run(rig.well)
        assert [one for one, _, _ in pool.tasks] == [("0", "1", "2"), ("3", "4", "5")]
        assert rig.place.done() == set("012345")

    def test_a_second_run_does_what_is_missing_in_the_same_company(self, tmp_path):
        rig = Rig(tmp_path)
        for one in (rig.requests[0], rig.requests[3], rig.requests[4], rig.requests[5]):
            rig.write(one)
        pool = rig.run(rig.well)
        assert pool.tasks == [(("0", "1", "2"), {"1", "2"}, False)]
        assert rig.run(rig.well).tasks == []

    def test_one_bad_row_takes_no_other_along(self, tmp_path):
        rig = Rig(tmp_path)

        def answer(task):
            if "1" in task.wanted:
                return Answer(errors=dict.fromkeys(task.wanted, BAD))
            return rig.well(task)

        pool = rig.run(answer)
        assert rig.failed() == {"1"}
        assert rig.ledger.rows["1"]["tries"] == 2
        assert sum(one == ("1",) for one, _, _ in pool.tasks) == 2
        assert rig.place.done() == set("012345")
        assert (tmp_path / "failed.jsonl").read_text().count("\n") == 1

    def test_a_row_that_kills_its_worker_fails_and_no_other_does(self, tmp_path):
        rig = Rig(tmp_path)
        pool = rig.run(lambda task: Gone.DIED if "4" in task.wanted else rig.well(task))
        assert rig.failed() == {"4"}
        assert rig.ledger.rows["4"]["error"]["error"] == "WorkerDiedError"
        # Once it is suspected, nothing runs beside it.
        assert all(by_itself for one, _, by_itself in pool.tasks if one == ("4",))

    def test_a_computer_that_is_lost_counts_against_no_row(self, tmp_path):
        rig, lost = Rig(tmp_path), Counter()

        def answer(task):
            company = tuple(row.id for row in task.requests)
            lost[company] += 1
            if lost[company] == 1:
                rig.write(task.requests[0])
            return Gone.LOST if lost[company] < 9 else rig.well(task)

        pool = rig.run(answer)
        assert (rig.failed(), len(rig.ledger.rows)) == (set(), 6)
        assert lost == {("0", "1", "2"): 9, ("3", "4", "5"): 9}
        assert not any(by_itself for _, _, by_itself in pool.tasks)
        assert pool.tasks[-1][1] == {"4", "5"}

    def test_what_a_worker_wrote_before_it_died_counts(self, tmp_path):
        rig = Rig(tmp_path, 3)
        deaths = []

        def answer(task):
            if deaths:
                return rig.well(task)
            deaths.append(task)
            rig.write(rig.requests[1])
            return Gone.DIED

        pool = rig.run(answer)
        assert [wanted for _, wanted, _ in pool.tasks] == [set("012"), set("02")]
        assert [row["id"] for row in batch_run.told(tmp_path)].count("1") == 1

    def test_what_failed_for_good_is_run_again_only_if_asked(self, tmp_path):
        rig = Rig(tmp_path, 3)
        rig.run(lambda task: Answer(errors=dict.fromkeys(task.wanted, BAD)))
        assert rig.failed() == set("012")
        assert rig.run(rig.well).tasks == []
        ledger = Ledger(rig.place, again=True)
        ledger.close()
        assert not ledger.done
        assert not (tmp_path / "failed.jsonl").exists()
        rig.run(rig.well)
        assert not rig.failed()

    def test_the_others_of_a_row_that_failed_run_alone_as_they_did(self, tmp_path):
        rig = Rig(tmp_path, 3)
        ledger = Ledger(rig.place)
        ledger.add(row_of(rig.requests[0]) | {"error": {"message": "bad"}})
        assert [len(one.rows) for one in works(rig.requests, ledger, 3)] == [1, 1]
        ledger.close()

    def test_it_stops_where_nothing_can_be_written(self, tmp_path):
        rig = Rig(tmp_path)
        with pytest.raises(OutputError, match="no space"):
            rig.run(lambda task: Answer(stop="no space"))
        assert not rig.place.done()
        rig.run(rig.well)
        assert rig.place.done() == set("012345")


class TestLedger:
    def test_a_line_that_is_cut_off_is_written_anew(self, tmp_path):
        rig = Rig(tmp_path)
        rig.run(rig.well)
        whole = sorted((tmp_path / "results.jsonl").read_bytes().splitlines())
        for cut in (1, 40, len(b"\n".join(whole)) // 2, 10**6):
            path = tmp_path / "results.jsonl"
            path.write_bytes(path.read_bytes()[:-cut] if cut < 10**6 else b"")
            Ledger(rig.place).close()
            assert sorted(path.read_bytes().splitlines()) == whole

    def test_a_line_of_a_row_that_is_not_there_is_left_out(self, tmp_path):
        rig = Rig(tmp_path)
        rig.run(rig.well)
        (tmp_path / "rows" / "3" / "row.json").unlink()
        assert rig.run(rig.well).tasks == [(("3", "4", "5"), {"3"}, False)]
        assert len(batch_run.told(tmp_path)) == 6


class TestPlaces:
    def test_a_store_of_fsspec_keeps_what_a_folder_does(self, tmp_path):
        for place in (place_at("memory://run"), place_at(str(tmp_path))):
            place.prepare()
            assert place.done() == set()
            written = write_row(place, request("7"), [_png("a.png")], Effort(1, 2, 1, 0))
            assert place.done() == {"7"}
            assert place.get("rows/7/a.png") == _png("a.png").data
            ledger = Ledger(place)
            assert ledger.rows == {"7": written}
            ledger.add(row_of(request("8")))
            ledger.close()
            assert len(place.get("results.jsonl").splitlines()) == 2
            with pytest.raises(OutputError, match="cannot be read"):
                place.get("none")

    def test_addresses_of_files_are_folders(self, tmp_path):
        assert isinstance(place_at(f"file://{tmp_path}"), LocalPlace)
        assert isinstance(place_at("memory://x"), RemotePlace)
        with pytest.raises(SettingsError, match="cannot be opened"):
            place_at("nonsense://x")

    def test_what_killed_runs_leave_is_cleared_away(self, tmp_path):
        parts = [
            tmp_path / where / ".a.png.00000000.part"
            for where in ("", "shards", "rows/1", "rows/2")
        ]
        for part in parts:
            part.parent.mkdir(parents=True, exist_ok=True)
            part.write_bytes(b"half")
        with held(place_at(str(tmp_path))):
            assert not [part for part in parts if part.exists()]

    def test_what_a_dead_worker_has_left_is_cleared_away_in_the_end(self, tmp_path):
        place, one = place_at(str(tmp_path)), request("1")
        part = tmp_path / "rows" / "1" / ".a.png.00000000.part"

        def answer(_):
            if not part.parent.exists():
                part.parent.mkdir(parents=True)
                part.write_bytes(b"half")
                return Gone.DIED
            return Answer([write_row(place, one, [], Effort(0, 0, 1, 0))])

        with held(place):
            run(place, Checked([one], [], 0), RULES, lambda: Pool(answer), lambda _: lambda _: None)
        assert place.done() == {"1"}
        assert not part.exists()

    def test_two_runs_do_not_share_a_folder(self, tmp_path):
        place = place_at(str(tmp_path))
        with held(place), pytest.raises(SettingsError, match="Another run"), held(place):
            pass


def _png(name: str, alpha: int = 128) -> MadeFile:
    pixels = np.full((16, 16, 4), alpha, np.uint8)
    return MadeFile(name, png_bytes(pixels), {"layer": "fg", "seed": 1}, True)


class TestReports:
    def test_what_is_told_of_alpha_is_read_from_the_file(self, tmp_path):
        place = place_at(str(tmp_path))
        told = write_row(place, request("1"), [_png("a.png", 255)], Effort(1, 2, 1, 0))
        assert told["files"][0]["alpha"]["verdict"] == "opaque"
        assert told["files"][0]["sha256"] == hashlib.sha256(_png("a.png", 255).data).hexdigest()

    def test_a_file_that_is_not_what_was_written_is_no_result(self, tmp_path, monkeypatch):
        place = place_at(str(tmp_path))
        monkeypatch.setattr(place, "get", lambda name: _png("a.png", 255).data)
        with pytest.raises(OutputError, match="not what was written"):
            write_row(place, request("1"), [_png("a.png")], Effort(1, 2, 1, 0))
        assert not place.done()


@pytest.fixture(scope="module")
def loaded() -> Models:
    return Models(batch_run.no_store)


class TestWorker:
    @pytest.fixture(autouse=True)
    def _loaded_once(self, loaded, monkeypatch):
        monkeypatch.setattr(working, "Models", lambda _: loaded)

    def test_together_or_in_part_the_same_files(self, tmp_path):
        lines = rows(3) + rows(1, method="joint_sd15", layers="psd,zip", show_preview=True)
        found = batch_run.checked(batch_run.job_file(tmp_path / "j.jsonl", lines)).requests
        *three, joint = found
        whole = Worker(batch_run.setup(tmp_path / "whole"))
        answer = whole.run(three, {one.id for one in three})
        assert (len(answer.done), answer.errors, answer.stop) == (3, {}, None)
        answer = whole.run([joint], {joint.id})
        names = {Path(one["file"]).name.partition("-")[2] for one in answer.done[0]["files"]}
        assert names == {
            *("0-fg.png", "0-fg-preview.png", "1-bg.png", "2-blended.png"),
            *("0-layers.psd", "0-layers.zip"),
        }
        part = Worker(batch_run.setup(tmp_path / "part"))
        part.run(three, {three[1].id})
        assert set(results(tmp_path / "part")) == {three[1].id}
        assert results(tmp_path / "part").items() <= results(tmp_path / "whole").items()
        for told in map(
            json.loads, (p.read_text() for p in tmp_path.glob("whole/rows/*/row.json"))
        ):
            for one in told["files"]:
                data = (tmp_path / "whole" / one["file"]).read_bytes()
                assert hashlib.sha256(data).hexdigest() == one["sha256"]
                if "alpha" in one:
                    assert one["alpha"] == measure(to_u8(read_image(data))).as_dict()

    def test_one_row_that_cannot_be_decoded_leaves_the_others(self, tmp_path, monkeypatch):
        found = batch_run.checked(batch_run.job_file(tmp_path / "j.jsonl", rows(2))).requests
        whole = working.layers_of

        def fails(job, *more):
            if job.seed == 1:
                raise MemoryError("CUDA out of memory")
            return whole(job, *more)

        monkeypatch.setattr(working, "layers_of", fails)
        answer = Worker(batch_run.setup(tmp_path / "out")).run(found, {one.id for one in found})
        assert [told["id"] for told in answer.done] == [found[0].id]
        assert answer.errors[found[1].id]["error"] == "MemoryError"

    def test_an_opaque_row_is_drawn_again_with_the_next_seed(self, tmp_path, monkeypatch):
        found = batch_run.checked(batch_run.job_file(tmp_path / "j.jsonl", rows(1))).requests
        made = working.made_files
        seeds = []

        def files(one, steps):
            seeds.append(one.job.seed)
            return [_png("a.png", 255 if len(seeds) < 3 else 128)] if seeds else made(one, steps)

        monkeypatch.setattr(working, "made_files", files)
        wanted = {0: ([0], "opaque"), 1: ([0, 1], "opaque"), 4: ([0, 1, 2], "transparent")}
        for redraws, (seen, verdict) in wanted.items():
            seeds.clear()
            worker = Worker(batch_run.setup(tmp_path / str(redraws), redraws=redraws))
            (told,) = worker.run(found, {found[0].id}).done
            assert seeds == seen
            assert told["redraws"] == len(seen) - 1
            assert told["files"][0]["alpha"]["verdict"] == verdict

    def test_a_chain_is_one_row(self, tmp_path):
        given = tmp_path / "bg.png"
        given.write_bytes(png_bytes(np.full((8, 8, 3), 90, np.uint8)))
        line = {"method": "bg_to_blended_sdxl", "bg_image": "bg.png", "chain": True, "seed": 3}
        lines = [line | {"steps": 1, "sampler": "Euler", "layers": "ora"}]
        (one,) = batch_run.checked(batch_run.job_file(tmp_path / "j.jsonl", lines)).requests
        (told,) = Worker(batch_run.setup(tmp_path / "out")).run([one], {one.id}).done
        layers = [file["layer"] for file in told["files"] if "layer" in file]
        assert layers == ["blended", "fg"]
        assert told["files"][-1]["kind"] == "ora"


def finish(place, checked, pool) -> list[dict]:
    seen: list[dict] = []
    with held(place):
        run(place, checked, RULES, pool, lambda _: seen.append)
    return seen


def test_a_process_that_dies_is_replaced_and_its_row_comes_out_the_same(tmp_path):
    checked = batch_run.checked(batch_run.job_file(tmp_path / "j.jsonl", rows(1)))
    out = tmp_path / "out"
    (told,) = finish(place_at(str(out)), checked, lambda: KilledPool(batch_run.setup(out), [None]))
    assert (told["tries"], told["error"]) == (1, None)
    Worker(batch_run.setup(tmp_path / "alone")).run(checked.requests, {told["id"]})
    assert results(out) == results(tmp_path / "alone")
    assert batch_run.told(out) == [told]


@pytest.mark.slow
def test_processes_that_cannot_begin_end_the_run(tmp_path):
    checked = batch_run.checked(batch_run.job_file(tmp_path / "j.jsonl", rows(1)))
    out = tmp_path / "out"
    with pytest.raises(HostError, match="ended 3 times before they could begin"):
        finish(place_at(str(out)), checked, lambda: BrokenPool(batch_run.setup(out), [None, None]))
    assert not results(out)


@pytest.mark.slow
def test_rows_of_every_fate_in_processes(tmp_path):
    """A row that kills its worker, beside others: these are what they are without it."""
    lines = [*rows(2), batch_run.QUICK | {"prompt": CRASHES, "seed": 9, "steps": 2}]
    checked = batch_run.checked(batch_run.job_file(tmp_path / "j.jsonl", lines))
    out = tmp_path / "out"
    seen = finish(place_at(str(out)), checked, lambda: CrashingPool(batch_run.setup(out), [None]))
    assert [told["id"] for told in seen if told["error"]] == [checked.requests[2].id]
    assert status_of(place_at(str(out))).as_dict() == {
        **{"total": 3, "done": 2, "failed": 1, "left": 0, "bad": 0, "running": False},
        "opaque": sum(told["error"] is None and _opaque(told) for told in seen),
    }
    alone = Worker(batch_run.setup(tmp_path / "alone"))
    alone.run(checked.requests[:2], {one.id for one in checked.requests[:2]})
    assert (out / "sheet.html").read_text("utf-8").count("<h2>") >= 2
    there = results(out)
    assert there.pop(checked.requests[2].id) == {}
    assert there == results(tmp_path / "alone")


def _opaque(told) -> bool:
    return any(one.get("alpha", {}).get("verdict") != "transparent" for one in told["files"])


@pytest.mark.slow
def test_a_full_disk_ends_the_run_and_another_goes_on(tmp_path):
    checked = batch_run.checked(batch_run.job_file(tmp_path / "j.jsonl", rows(2)))
    out = tmp_path / "out"
    place = place_at(str(out))
    with pytest.raises(OutputError):
        finish(place, checked, lambda: FullDiskPool(batch_run.setup(out), [None]))
    assert not results(out)
    finish(place, checked, lambda: ProcessPool(batch_run.setup(out), [None]))
    assert len(results(out)) == len(batch_run.told(out)) == 2
    assert not list(out.rglob("*.part"))
