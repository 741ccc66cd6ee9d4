"""Files that are written whole or not at all."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import pytest

from lib_layerdiffuse.errors import SettingsError
from lib_layerdiffuse.files.whole_files import part_of, whole_file, write_new


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_folder_is_made_and_a_file_replaced(tmp_path):
    path = tmp_path / "a" / "b" / "c.bin"
    for data in (b"one", b"two"):
        with whole_file(path) as out:
            out.write(data)
    assert path.read_bytes() == b"two"
    assert names(path.parent) == ["c.bin"]


@pytest.mark.parametrize("before", [None, b"old"])
def test_a_block_that_raises_leaves_what_was_there(tmp_path, before):
    path = tmp_path / "c.bin"
    if before is not None:
        path.write_bytes(before)
    with suppress(KeyError), whole_file(path) as out:
        out.write(b"half")
        raise KeyError
    assert names(tmp_path) == ([] if before is None else ["c.bin"])
    assert before is None or path.read_bytes() == before


def test_nobody_meets_half_a_file(tmp_path):
    path = tmp_path / "c.bin"
    with whole_file(path) as out:
        out.write(b"half")
        out.flush()
        assert not path.exists()
        [part] = names(tmp_path)
        assert part.startswith(".c.bin.")
    assert path.read_bytes() == b"half"


@pytest.mark.parametrize("place", ["folder", os.devnull])
def test_only_ordinary_files_are_replaced(tmp_path, place):
    (tmp_path / "folder").mkdir()
    with pytest.raises(SettingsError, match="is no file"), whole_file(tmp_path / place):
        pytest.fail("the block ran")


def test_new_files_take_the_next_free_name(tmp_path):
    wanted = tmp_path / "sub" / "a.b.psd"
    written = [write_new(wanted, bytes([n])) for n in range(3)]
    assert [path.name for path in written] == ["a.b.psd", "a.b-2.psd", "a.b-3.psd"]
    assert [path.read_bytes() for path in written] == [b"\0", b"\1", b"\2"]
    assert names(wanted.parent) == sorted(path.name for path in written)


def test_a_new_file_that_cannot_be_written_leaves_no_name_behind(tmp_path, monkeypatch):
    def full(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(SettingsError, match="No space left on device"):
        write_new(tmp_path / "a.psd", b"data")
    assert names(tmp_path) == []


def test_a_file_in_the_place_of_the_folder_is_said(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(SettingsError, match="could not be written"):
        write_new(tmp_path / "file" / "a.psd", b"data")
    with pytest.raises(FileExistsError), part_of(tmp_path / "file" / "a.psd"):
        pytest.fail("the block ran")
