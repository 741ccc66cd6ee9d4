"""Job files: what a row may say, how bad ones are told, and which id and company a row has."""

from __future__ import annotations

import json
from pathlib import Path

import batch_run
import numpy as np
import pytest
from PIL import Image

from lib_layerdiffuse.batch.addresses import resolved
from lib_layerdiffuse.batch.job_file import BadLine, for_each, read_job_file
from lib_layerdiffuse.batch.requests import Request, chunks
from lib_layerdiffuse.cli import main
from lib_layerdiffuse.errors import SettingsError

QUICK = batch_run.QUICK


def picture(path: Path, value: int = 9) -> Path:
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(np.full((8, 8, 4), value, np.uint8)).save(path)
    return path


def ids(folder: Path, *lines: dict) -> list[str]:
    found = batch_run.checked(batch_run.job_file(folder / "ids.jsonl", lines))
    assert not found.bad, [str(one) for one in found.bad]
    return [one.id for one in found.requests]


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ({"prompt": "a"}, "method"),
        (QUICK | {"stepz": 1}, "stepz"),
        (QUICK | {"steps": 0}, "steps"),
        (QUICK | {"steps": 1.5}, "steps"),
        (QUICK | {"steps": "2"}, "steps"),
        (QUICK | {"steps": True}, "steps"),
        (QUICK | {"cfg": 31}, "cfg"),
        (QUICK | {"seed": 2**32}, "seed"),
        (QUICK | {"seed": 2**32 - 1, "sets": 2}, "seed"),
        (QUICK | {"sets": 65}, "sets"),
        (QUICK | {"size": "65x64"}, "size"),
        (QUICK | {"sampler": "Foo"}, "sampler"),
        (QUICK | {"weight": 3}, "strength"),
        (QUICK | {"prompt": "a <lora:x:1>"}, "prompt"),
        (QUICK | {"prompt": 3}, "prompt"),
        (QUICK | {"negative_prompt": ["a"]}, "negative_prompt"),
        (QUICK | {"layers": "tiff"}, "layers"),
        (QUICK | {"trim": True}, "trim"),
        (QUICK | {"views": "9"}, "views"),
        (QUICK | {"views": 4}, "views"),
        (QUICK | {"compiled": "yes"}, "compiled"),
        (QUICK | {"denoise": 0.5}, "denoise"),
        (QUICK | {"init": "none.png"}, "init"),
        (QUICK | {"fg_image": "none.png"}, "fg_image"),
        (QUICK | {"bg_additional_prompt": "a"}, "bg_additional_prompt"),
        (QUICK | {"method": "fg_to_bg_sd15"}, "fg_image"),
        (QUICK | {"checkpoint": "none.safetensors"}, "checkpoint"),
        (QUICK | {"checkpoint": "x" * 300}, "checkpoint"),
        (QUICK | {"checkpoint": "~no-such-user/x"}, "checkpoint"),
        (QUICK | {"checkpoint": "a\0b"}, "checkpoint"),
        (QUICK | {"init": "~no-such-user/x.png"}, "init"),
        (QUICK | {"init": "\udcff.png"}, "init"),
        (QUICK | {"init": "zip://a.png::none.zip"}, "init"),
        (QUICK | {"loras": ["."]}, "loras"),
        (QUICK | {"loras": ["x" * 300]}, "loras"),
        (QUICK | {"loras": ["\udcff:1"]}, "loras"),
        (QUICK | {"loras": 3}, "loras"),
        (QUICK | {"loras": ["none.safetensors:0.5"]}, "loras"),
        (QUICK | {"prediction": "x"}, "prediction"),
        (QUICK | {"chain": True}, "method"),
        (QUICK | {"second_stop_at": 0.5}, "second_sampler"),
        (QUICK | {"enabled": False}, "enabled"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_bad_value_is_named_with_line_and_field(tmp_path, line, field):
    found = batch_run.checked(batch_run.job_file(tmp_path / "j.jsonl", [QUICK, line]))
    assert [one.line for one in found.requests] == [1]
    (bad,) = found.bad
    assert (bad.number, bad.error.field) == (2, field)
    assert str(bad).startswith(f"line 2, {field}: ")
    assert bad.error.message
    assert bad.error.hint


@pytest.mark.parametrize("text", ["{", "[1]", "3", '{"steps": NaN}', "[" * 100_000, "\x00"])
def test_lines_that_are_no_objects(tmp_path, text):
    path = tmp_path / "j.jsonl"
    path.write_text(f"\n{text}\n{json.dumps(QUICK)}\n")
    bad, good = read_job_file(str(path))
    assert isinstance(bad, BadLine)
    assert "line 1" not in str(bad)
    assert (bad.number, good.number, good.values) == (2, 3, QUICK)


def test_csv_reads_the_same_texts(tmp_path):
    path = tmp_path / "j.csv"
    path.write_text(
        "\ufeffmethod,steps,prompt,seed,sampler,show_preview\n"
        'fg_attn_sd15,2,"an apple, red",4,Euler,true\n'
        "fg_attn_sd15,x,a,4,Euler,\n"
        "fg_attn_sd15,1,a,4,Euler,true,more\n"
        "fg_attn_sd15,,,,,\n"
    )
    found = batch_run.checked(path)
    assert [(one.number, one.error.field) for one in found.bad] == [(3, "steps"), (4, None)]
    first, last = found.requests
    assert first.values["prompt"] == "an apple, red"
    assert (first.line, last.line) == (2, 5)
    assert set(last.values) == {"method", "seed"}


def test_in_csv_a_whole_number_may_have_a_point(tmp_path):
    path = tmp_path / "j.csv"
    path.write_text("method,seed,steps\nfg_attn_sd15,2.0,1.0\nfg_attn_sd15,2,1\n")
    found = batch_run.checked(path)
    assert [one.values["seed"] for one in found.requests] == [2, 2]
    assert not found.bad


def test_a_checkpoint_that_cannot_be_read_is_bad(tmp_path, monkeypatch):
    def fails(_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("lib_layerdiffuse.batch.requests._hash_of", fails)
    found = batch_run.checked(batch_run.job_file(tmp_path / "j.jsonl", [QUICK]))
    (bad,) = found.bad
    assert str(bad).startswith("line 1, checkpoint: ")
    assert not found.requests


def test_a_file_that_is_no_text_is_refused(tmp_path):
    path = tmp_path / "j.jsonl"
    path.write_bytes(b"\xff\xfe{}")
    with pytest.raises(SettingsError, match="UTF-8"):
        list(read_job_file(str(path)))
    with pytest.raises(SettingsError, match="no file"):
        list(read_job_file(str(tmp_path / "none.jsonl")))


def row(line: int, models: str, method: str, rest: str, sets: int = 1) -> Request:
    return Request(str(line), line, {}, True, (models, method, rest), sets)


class TestIds:
    def test_they_follow_from_what_is_asked_for(self, tmp_path):
        one, again = ids(tmp_path, QUICK | {"seed": 1}), ids(tmp_path, {"seed": 1} | QUICK)
        assert one == again
        others = [{"seed": 2}, {"steps": 2}, {"prompt": "a"}, {"layers": "psd"}]
        found = {ids(tmp_path, QUICK | {"seed": 1} | more)[0] for more in others}
        assert len(found | set(one)) == 5

    def test_an_images_bytes_count_and_not_its_name(self, tmp_path):
        line = QUICK | {"seed": 1, "denoise": 0.5}
        (
            picture(tmp_path / "a.png", 9),
            picture(tmp_path / "b.png", 9),
            picture(tmp_path / "c.png", 8),
        )
        a, b, c = (ids(tmp_path, line | {"init": f"{name}.png"})[0] for name in "abc")
        assert a == b != c

    def test_the_weights_bytes_count(self, tmp_path, monkeypatch):
        before = ids(tmp_path, QUICK | {"seed": 1})
        monkeypatch.setattr("lib_layerdiffuse.weights.store.WeightStore.sha256", lambda *_: "0")
        assert ids(tmp_path, QUICK | {"seed": 1}) != before

    def test_a_checkpoints_bytes_count(self, tmp_path, monkeypatch):
        before = ids(tmp_path, QUICK | {"seed": 1})
        monkeypatch.setattr("lib_layerdiffuse.batch.requests._hash_of", lambda _: "0")
        assert ids(tmp_path, QUICK | {"seed": 1}) != before

    def test_rows_without_a_seed_differ_and_come_out_the_same_again(self, tmp_path):
        first = ids(tmp_path, QUICK, QUICK, QUICK | {"prompt": "a"})
        assert len(set(first)) == 3
        assert ids(tmp_path, QUICK, QUICK, QUICK | {"prompt": "a"}) == first
        # Where others stand between, the same rows keep their ids.
        assert ids(tmp_path, QUICK, QUICK | {"prompt": "b"}, QUICK)[::2] == first[:2]

    def test_the_same_row_is_made_once(self, tmp_path):
        path = batch_run.job_file(tmp_path / "j.jsonl", [QUICK | {"seed": 1}] * 3)
        found = batch_run.checked(path)
        assert (len(found.requests), found.repeated, found.bad) == (1, 2, [])


class TestCompany:
    def test_rows_that_differ_in_prompts_and_seeds_run_together(self, tmp_path):
        alike = [QUICK | {"seed": 1}, QUICK | {"seed": 2, "prompt": "a"}]
        others = [{"steps": 2}, {"size": "64"}, {"weight": 0.5}, {"cfg": 2}, {"sampler": "DDIM"}]
        lines = [*alike, *(QUICK | {"seed": 1} | more for more in others)]
        found = batch_run.checked(batch_run.job_file(tmp_path / "j.jsonl", lines)).requests
        assert found[0].group == found[1].group
        assert len({one.group for one in found}) == 1 + len(others)

    def test_rows_with_other_images_do_not(self, tmp_path):
        for name, value in {"a": 9, "b": 8}.items():
            picture(tmp_path / f"{name}.png", value)
        lines = [QUICK | {"method": "fg_to_bg_sd15", "fg_image": f"{name}.png"} for name in "aab"]
        found = batch_run.checked(batch_run.job_file(tmp_path / "j.jsonl", lines)).requests
        assert len({one.group for one in found[:2]}) == 1
        assert found[2].group != found[0].group

    def test_chunks_are_as_large_as_allowed_and_lose_nobody(self):
        sets = [1, 1, 3, 5, 1, 2, 2, 2]
        rows = [row(i, "a", "b", "cd"[i % 2], n) for i, n in enumerate(sets)]
        found = chunks(rows, 4)
        assert sorted(row.line for one in found for row in one) == list(range(8))
        for one in found:
            assert len({row.group for row in one}) == 1
            assert len(one) == 1 or sum(row.sets for row in one) <= 4
        assert [[row.line for row in one] for one in found] == [[0, 2], [4, 6], [1], [3], [5, 7]]

    def test_models_and_methods_are_not_exchanged_to_and_fro(self):
        groups = ["ax", "by", "ay", "bx", "ax", "by"]
        found = chunks([row(i, *group, "") for i, group in enumerate(groups)], 1)
        assert [chunk[0].group[:2] for chunk in found] == [
            *(("a", "x"), ("a", "x"), ("a", "y"), ("b", "y"), ("b", "y"), ("b", "x"))
        ]


class TestForEach:
    def test_each_template_is_filled_with_each_image(self, tmp_path):
        for name in ("b.png", "a.png", ".hidden.png"):
            picture(tmp_path / "in" / name)
        path = batch_run.job_file(tmp_path / "j.jsonl", [QUICK, QUICK | {"steps": 2}])
        found = list(for_each(read_job_file(str(path)), "fg_image", str(tmp_path / "in")))
        names = [(one.number, Path(one.values["fg_image"]).name) for one in found]
        assert names == [(1, "a.png"), (1, "b.png"), (2, "a.png"), (2, "b.png")]

    @pytest.mark.parametrize("name", ["none", "empty", "x" * 300, "a://b", "memory://none"])
    def test_a_folder_without_images_is_refused(self, tmp_path, name):
        (tmp_path / "empty").mkdir()
        with pytest.raises(SettingsError):
            list(for_each([], "fg_image", resolved(name, str(tmp_path))))


def test_nothing_runs_where_a_line_is_bad(tmp_path, capfd):
    path = batch_run.job_file(tmp_path / "j.jsonl", [QUICK, QUICK | {"steps": 0}, {}])
    assert main(["batch", str(path), "--out", str(tmp_path / "out"), "--json"]) == 2
    out, err = capfd.readouterr()
    told = [json.loads(line) for line in out.splitlines()]
    assert [(one["line"], one["error"]["field"]) for one in told] == [(2, "steps"), (3, "method")]
    assert "line 2, steps: Steps must be" in err
    assert "line 3, method: There is no method." in err
    assert "nothing was run, because of 2 lines; mend them, or" in err
    assert not batch_run.results(tmp_path / "out")
