"""What a person sees of a run: one line on a terminal, lines of their own for failures, a log."""

from __future__ import annotations

import json
import logging
import os
import sys
from unittest.mock import patch

import pytest

from lib_layerdiffuse.batch.figures import Tally
from lib_layerdiffuse.cli import main
from lib_layerdiffuse.cli.batch_progress import Progress
from lib_layerdiffuse.cli.lines import CLEAR

FAILED = {"line": 7, "files": [], "error": {"message": "Too large. " * 30, "hint": "Shrink it."}}


def seen(capfd: pytest.CaptureFixture[str], *, on_terminal: bool, quiet: bool = False) -> str:
    tally = Tally(123_456, done=120_000, failed=1234, opaque=999)
    with patch.object(sys.stderr, "isatty", return_value=on_terminal):
        progress = Progress(quiet=quiet, as_json=False)
        with progress:
            progress.passing("checking jobs.jsonl")
            tell = progress.begin(tally)
            tally.failed += 1
            tell(FAILED)
    return capfd.readouterr().err


@pytest.fixture(params=[40, 80, 120])
def columns(request, monkeypatch) -> int:
    size = os.terminal_size((request.param, 24))
    monkeypatch.setattr("shutil.get_terminal_size", lambda: size)
    monkeypatch.setattr("lib_layerdiffuse.cli.batch_progress._EVERY", 0.0)
    return request.param


def test_a_terminal_shows_one_line_that_fits(columns, capfd):
    err = seen(capfd, on_terminal=True)
    assert err.endswith(CLEAR)  # Nothing is left of it.
    passing = [part for part in err.split(CLEAR) if part and "\n" not in part]
    assert [part[:8] for part in passing] == ["checking", "121234 o", "121235 o"]
    assert all(len(part) < columns for part in passing)
    (failure,) = [part for part in err.split(CLEAR) if "\n" in part]
    assert failure.startswith("layerdiffuse: line 7 failed: Too large. Too")
    assert failure.endswith("Shrink it.\n")


def test_a_log_gets_lines(capfd, monkeypatch):
    monkeypatch.setattr("lib_layerdiffuse.cli.batch_progress._EVERY_IN_LOG", 0.0)
    failure, progress = seen(capfd, on_terminal=False).splitlines()
    assert failure.startswith("layerdiffuse: line 7 failed: ")
    assert progress.startswith("layerdiffuse: 121235 of 123456 rows, ")
    assert progress.endswith(" left, 1235 failed, 999 not transparent")


def test_who_wants_no_notes_gets_none(columns, capfd):
    assert seen(capfd, on_terminal=True, quiet=True).replace(CLEAR, "") == ""


def test_stdout_has_rows_only_whatever_libraries_print(capfd, caplog):
    caplog.set_level("INFO")
    with Progress(quiet=True, as_json=True) as progress:
        tell = progress.begin(Tally(1))
        print("a node is lost")
        tell(FAILED)
    print("as before")
    row, last = capfd.readouterr().out.splitlines()
    assert (json.loads(row), last) == (FAILED, "as before")
    assert "a node is lost" in caplog.text


def test_a_warning_takes_the_place_of_what_is_shown_for_the_moment(capfd, monkeypatch):
    def shows_and_warns(_: object) -> int:
        with Progress(quiet=False, as_json=False) as progress:
            progress.passing("1 of 2 rows")
            logging.getLogger("lib_layerdiffuse.batch").warning("a node is lost")
        return 0

    monkeypatch.setattr("lib_layerdiffuse.cli.batch_command._run", shows_and_warns)
    with patch.object(sys.stderr, "isatty", return_value=True):
        assert main(["batch", "j.jsonl"]) == 0
    err = capfd.readouterr().err
    assert err == f"{CLEAR}1 of 2 rows{CLEAR}layerdiffuse: a node is lost\n{CLEAR}"
