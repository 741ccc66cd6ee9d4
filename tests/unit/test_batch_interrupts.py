"""Ctrl-C, and the system's wish that a run ends, as a terminal and a scheduler send them: to all
of its processes.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import batch_run
import pytest
from command_runs import ROOT
from processes_here import SOON, is_called, of_session, wait_for
from ray_nodes import RAY

from lib_layerdiffuse.batch.places import place_at
from lib_layerdiffuse.batch.runs import held
from lib_layerdiffuse.cli import main

pytestmark = pytest.mark.slow


# What runs in the background of a shell is deaf to interrupts, and so are its children.
_HEARING = (
    "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from lib_layerdiffuse.__main__ import run; sys.exit(run())"
)


def begin(jobs: Path, out: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _HEARING, "batch", str(jobs), "--out", str(out)]
    return subprocess.Popen(
        [*command, *options],
        env={**os.environ, **RAY, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.mark.parametrize(
    ("number", "at_work"),
    [(signal.SIGINT, False), (signal.SIGINT, True), (signal.SIGTERM, True)],
)
def test_it_ends_at_once_in_words_and_the_rest_is_made_later(tmp_path, number, at_work):
    jobs, out = batch_run.job_file(tmp_path / "j.jsonl", batch_run.rows(12)), tmp_path / "out"
    process = begin(jobs, out)
    if at_work:
        wait_for(lambda: any(out.glob("rows/*/row.json")))
    else:
        wait_for(lambda: any(is_called(one, "spawn_main") for one in of_session(process.pid)))
    check_end(process, number, out)
    with held(place_at(str(out))):
        pass
    assert main(["batch", str(jobs), "--out", str(out), "--quiet"]) == 0
    assert len(batch_run.results(out)) == len(batch_run.told(out)) == 12
    assert not list(out.rglob("*.part"))


@pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")
def test_ray_keeps_no_wish_to_itself(tmp_path):
    jobs, out = batch_run.job_file(tmp_path / "j.jsonl", batch_run.rows(40)), tmp_path / "out"
    process = begin(jobs, out, "--address", "local", "--workers", "1")
    wait_for(lambda: any(out.glob("rows/*/row.json")))
    process.terminate()
    check_words(process, out)


def check_end(process: subprocess.Popen[str], number: int, out: Path) -> None:
    """Ends a run, of which no worker may be left."""
    os.killpg(process.pid, number)
    check_words(process, out)
    assert not any(is_called(one, "spawn_main") for one in of_session(process.pid))
    wait_for(lambda: not of_session(process.pid))  # Python's own helper sees that by itself.


def check_words(process: subprocess.Popen[str], out: Path) -> None:
    _, err = process.communicate(timeout=SOON)
    said = f"layerdiffuse: what is done stays in {out}; the same command makes the rest"
    *before, last, end = err.splitlines()  # Where it was slow, it has told how far it was.
    assert (last, end) == (said, "layerdiffuse: interrupted"), err
    assert all(line.startswith("layerdiffuse: ") for line in before), err
    assert process.returncode == 130
