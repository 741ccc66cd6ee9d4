"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

import pytest

from lib_layerdiffuse.errors import SettingsError
from lib_layerdiffuse.files.whole_files import (
    check_folder,
    part_of,
    taken_names,
    whole_file,
    write_new,
)


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


def test_a_link_is_followed(tmp_path):
    link = tmp_path / "link.bin"
    link.symlink_to(tmp_path / "elsewhere" / "c.bin")
    for data in (b"one", b"two"):
        with whole_file(link) as out:
            out.write(data)
        assert link.is_symlink()
        assert (tmp_path / "elsewhere" / "c.bin").read_bytes() == data
    assert names(tmp_path / "elsewhere") == ["c.bin"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
@pytest.mark.parametrize("mode", [0o600, 0o664, 0o640])
def test_a_file_that_is_there_keeps_its_mode(tmp_path, mode):
    path = tmp_path / "c.bin"
    path.write_bytes(b"old")
    path.chmod(mode)
    with whole_file(path) as out:
        out.write(b"new")
    assert stat.S_IMODE(path.stat().st_mode) == mode


@pytest.mark.parametrize("letter", ["a", "ä"])
def test_a_name_may_be_as_long_as_the_file_system_allows(tmp_path, letter):
    path = tmp_path / (letter * ((255 - 4) // len(letter.encode())) + ".psd")
    with whole_file(path) as out:
        out.write(b"first")
    second, third = write_new(path, b"second"), write_new(path, b"third")
    assert [one.read_bytes() for one in (path, second, third)] == [b"first", b"second", b"third"]
    assert (second.name[-6:], third.name[-6:]) == ("-2.psd", "-3.psd")
    with (
        pytest.raises(SettingsError, match="Choose a shorter name"),
        whole_file(tmp_path / ("a" * 300)),
    ):
        pytest.fail("the block ran")


def test_a_folder_is_tried_and_left_as_it_was(tmp_path):
    check_folder(tmp_path)
    check_folder(tmp_path / "a" / "b")
    (tmp_path / "link").symlink_to(tmp_path / "not there")
    check_folder(tmp_path / "link")
    assert names(tmp_path) == ["link"]


def no_folders(folder: Path) -> list[Path]:
    (folder / "file").write_text("mine")
    (folder / "loop").symlink_to(folder / "loop")
    return [folder / "file" / "out", folder / "loop", folder / ("x" * 300), Path("/proc/no/out")]


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="Linux only")
def test_a_folder_that_cannot_be_written_to_is_said(tmp_path):
    for folder in no_folders(tmp_path):
        with pytest.raises(SettingsError, match="could not be written"):
            check_folder(folder)
    assert names(tmp_path) == ["file", "loop"]


def test_taken_names_are_taken_all_or_none(tmp_path):
    one, two = tmp_path / "new" / "1.png", tmp_path / "new" / "2.png"
    with taken_names([one, two]):
        with pytest.raises(FileExistsError), taken_names([tmp_path / "new" / "0.png", two]):
            pytest.fail("the block ran")
        assert names(tmp_path / "new") == ["1.png", "2.png"]
        one.write_bytes(b"data")
    assert names(tmp_path / "new") == ["1.png"]


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
