"""What is made of a run's rows in the end: the contact sheet and the shards."""

from __future__ import annotations

import hashlib
import io
import json
import re
import sys
import tarfile
from pathlib import Path
from typing import Any

import batch_run
import pytest

from lib_layerdiffuse.batch.figures import Tally
from lib_layerdiffuse.batch.ledger import Ledger
from lib_layerdiffuse.batch.parquet import write_table
from lib_layerdiffuse.batch.places import place_at
from lib_layerdiffuse.batch.requests import chunks
from lib_layerdiffuse.batch.results import write_failure
from lib_layerdiffuse.batch.shards import write_shards
from lib_layerdiffuse.batch.sheet import contact_sheet
from lib_layerdiffuse.batch.worker import Worker
from lib_layerdiffuse.cli import main
from lib_layerdiffuse.errors import CodecError


def row(name: str, verdict: str | None = "transparent", error: str = "") -> dict:
    file = {"file": f"rows/{name}/00000-1-fg.png", "layer": "fg", "set": 0, "seed": 1}
    shown = [file | ({"alpha": {"verdict": verdict}} if verdict else {})]
    extra = {"file": f"rows/{name}/00000-1-fg-matte.png", "layer": "fg", "set": 0, "extra": "matte"}
    document = {"file": f"rows/{name}/00000-1-layers.psd", "kind": "psd", "set": 0}
    return {
        "id": name,
        "line": int(name),
        "request": {"method": "fg_attn_sd15", "prompt": f"<b> {name}"},
        "files": [] if error else [*shown, extra, document],
        "error": {"message": error, "hint": ""} if error else None,
    }


class TestSheet:
    def test_what_needs_a_look_comes_first_and_texts_are_texts(self):
        rows = [row("1"), row("2", "opaque"), row("3", error="no <memory>"), row("4", "empty")]
        page = contact_sheet(rows, Tally(4).add_all(rows)).decode()
        assert re.findall("<h2>(.*)</h2>", page) == ["Failed", "Not transparent", "Done"]
        assert "no &lt;memory&gt;" in page
        assert "<b>" not in page
        links = re.findall(r'src="rows/(\d)/00000-1-fg.png"', page)
        assert links == ["2", "4", "1"]
        assert "4 of 4 rows, 1 failed, 2 not transparent" in page

    def test_what_there_is_none_of_has_no_heading(self):
        page = contact_sheet([row("1", None)], Tally(1)).decode()
        assert re.findall("<h2>(.*)</h2>", page) == ["Done"]


class TestShards:
    def fill(self, folder: Path, *rows: dict):
        place = place_at(str(folder))
        for told in rows:
            for one in told["files"]:
                place.put(one["file"], one["file"].encode() * 10)
        return place

    def test_a_row_is_a_sample_with_all_its_files(self, tmp_path):
        rows = [row("1"), row("2", error="bad"), row("3")]
        place = self.fill(tmp_path, *rows)
        assert write_shards(place, rows) == 1
        data = place.get("shards/000000.tar")
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            names = archive.getnames()
            files = {name: archive.extractfile(name).read() for name in names}
        endings = ["json", "0.fg.png", "0.fg.matte.png", "0.layers.psd"]
        assert names == [f"{key}.{ending}" for key in "13" for ending in endings]
        assert json.loads(files["3.json"]) == rows[2]
        assert files["1.0.layers.psd"] == place.get(rows[0]["files"][2]["file"])
        write_shards(place, rows)
        assert place.get("shards/000000.tar") == data

    def test_a_row_is_never_divided_and_old_shards_go(self, tmp_path):
        rows = [row(name) for name in "12345"]
        place = self.fill(tmp_path, *rows)
        assert write_shards(place, rows, size=1000) == 3
        assert write_shards(place, rows[:2], size=1000) == 1
        assert [one.name for one in (tmp_path / "shards").iterdir()] == ["000000.tar"]

    @pytest.mark.filterwarnings("ignore")
    def test_the_library_webdataset_reads_each_row_once(self, tmp_path):
        webdataset = pytest.importorskip("webdataset", reason="webdataset is not installed")
        rows = [row(name) for name in "12345"]
        place = self.fill(tmp_path, *rows)
        assert write_shards(place, rows, size=1000) == 3
        shards = sorted(str(path) for path in (tmp_path / "shards").iterdir())
        samples = list(webdataset.WebDataset(shards, shardshuffle=False))
        assert [sample["__key__"] for sample in samples] == list("12345")
        for sample, told in zip(samples, rows, strict=True):
            assert json.loads(sample["json"]) == told
            files = [sample[name] for name in ("0.fg.png", "0.fg.matte.png", "0.layers.psd")]
            assert files == [place.get(one["file"]) for one in told["files"]]

    @pytest.mark.slow
    @pytest.mark.filterwarnings("ignore")
    def test_the_library_webdataset_reads_what_a_run_has_drawn(self, tmp_path):
        """Images and layered files of each kind, bit for bit as they are without shards."""
        webdataset = pytest.importorskip("webdataset", reason="webdataset is not installed")
        lines = batch_run.rows(2, layers="psd,ora", sets=2, show_preview=True)
        lines += batch_run.rows(1, method="joint_sd15", layers="psd,ora,zip")
        lines += batch_run.rows(1, method="fg_attn_sdxl", layers="ora", trim=True)
        jobs, out = batch_run.job_file(tmp_path / "j.jsonl", lines), tmp_path / "out"
        assert main(["batch", str(jobs), "--out", str(out), "--shards", "--quiet"]) == 0
        whole = Worker(batch_run.setup(tmp_path / "whole"))
        requests = batch_run.checked(jobs).requests
        for rows in chunks(requests, 4):
            whole.run(rows, {one.id for one in rows})
        drawn = batch_run.results(tmp_path / "whole")
        shard = str(out / "shards" / "000000.tar")
        samples = list(webdataset.WebDataset(shard, shardshuffle=False))
        assert [sample["__key__"] for sample in samples] == [one.id for one in requests]
        kinds: set[str] = set()
        for sample in samples:
            members = {name: data for name, data in sample.items() if not name.startswith("__")}
            told = json.loads(members.pop("json"))
            kinds.update(Path(one["file"]).suffix for one in told["files"])
            assert sorted(members.values()) == sorted(drawn[sample["__key__"]].values())
            hashes = {hashlib.sha256(data).hexdigest() for data in members.values()}
            assert hashes == {one["sha256"] for one in told["files"]}
        assert kinds == {".png", ".psd", ".ora", ".zip"}


def without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: without_nulls(one) for name, one in value.items() if one is not None}
    return [without_nulls(one) for one in value] if isinstance(value, list) else value


class TestTable:
    def test_it_says_what_the_lines_say(self, tmp_path):
        parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
        lines = batch_run.rows(1, method="joint_sd15", layers="psd,zip", show_preview=True)
        jobs = batch_run.job_file(tmp_path / "j.jsonl", [*lines, *batch_run.rows(1)])
        drawn, bad = batch_run.checked(jobs).requests
        place = place_at(str(tmp_path / "out"))
        Worker(batch_run.setup(tmp_path / "out")).run([drawn], {drawn.id})
        write_failure(place, bad, CodecError("Too large.", "Choose a smaller size.").as_dict(), 2)
        ledger = Ledger(place)
        ledger.close()
        write_table(place, ledger.rows.values())
        table = parquet.read_table(tmp_path / "out" / "results.parquet")
        told = [row | {"request": json.loads(row["request"])} for row in table.to_pylist()]
        assert without_nulls(told) == without_nulls(batch_run.told(tmp_path / "out"))
        # Also where nothing is told that says which type a column has.
        write_table(place, [row for row in ledger.rows.values() if row["error"]])
        assert parquet.read_schema(tmp_path / "out" / "results.parquet") == table.schema

    def test_without_the_library_it_is_told_what_to_install(self, tmp_path, capfd, monkeypatch):
        monkeypatch.setitem(sys.modules, "pyarrow", None)
        jobs = batch_run.job_file(tmp_path / "j.jsonl", batch_run.rows(1))
        assert main(["batch", str(jobs), "--out", str(tmp_path / "out"), "--parquet"]) == 2
        assert 'pip install ".[batch]"' in capfd.readouterr().err
        assert not (tmp_path / "out").exists()
