"""Malformed inputs of every area: each is done, or refused in one line with the right status.

`make fuzz` tries thousands; `make test` a few of each.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import batch_area
import command_areas
import page_areas
import pytest
from budget import Budget
from command_areas import Files, files_in
from page_areas import DONE, REFUSED, check_line
from started_webui import WebUI

from lib_layerdiffuse.__main__ import run
from lib_layerdiffuse.batch import processes, worker
from lib_layerdiffuse.cli import main
from lib_layerdiffuse.standalone.models import Models
from lib_layerdiffuse.weights.store import WeightStore

INTERRUPTED = "interrupted"
_SLOWEST = 30.0
_NOTE = re.compile(r"(layerdiffuse: [^\n]+\n)*")
Try = Callable[[Random], str]
Fuzz = Callable[[str, Try], None]


@pytest.fixture
def fuzz(budget: Budget, record_property: Callable[[str, object], None]) -> Fuzz:
    """Tries an area's inputs one by one; fails with all faults in the end."""

    def tries(area: str, attempt: Try) -> None:
        counts: Counter[str] = Counter()
        faults: list[str] = []
        start = time.monotonic()
        for number, rng in budget.draws(area):
            begun = time.monotonic()
            counts["inputs"] += 1
            try:
                counts[attempt(rng)] += 1
                took = time.monotonic() - begun
                assert took < _SLOWEST, f"took {took:.0f} s"
            except BaseException:
                faults.append(f"--seed {budget.seed} --only {number}: {traceback.format_exc()}")
        row = {name: counts[name] for name in ("inputs", DONE, REFUSED, INTERRUPTED)}
        row |= {"area": area, "faults": len(faults), "seconds": round(time.monotonic() - start)}
        record_property("fuzzed", row)
        assert not faults, f"{len(faults)} faults\n\n" + "\n\n".join(faults[:5])

    return tries


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return files_in(tmp_path_factory.mktemp("fuzz"))


@pytest.fixture
def files(whole: Files, monkeypatch: pytest.MonkeyPatch) -> Files:
    """Whole files, with an empty folder for malformed ones as the current one."""
    monkeypatch.chdir(whole.folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(whole.folder / "cache"))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # Nobody is there.
    return whole


def emptied(folder: Path) -> None:
    for one in folder.iterdir():
        shutil.rmtree(one) if one.is_dir() and not one.is_symlink() else one.unlink()


def outcome(command: list[str], capfd: pytest.CaptureFixture[str]) -> str:
    """Runs a command, which has to do what it is told or to say in one line why not."""
    status = main(command)
    err = capfd.readouterr().err
    assert status in (0, 2), f"status {status} of {command}: {err}"
    if status == 0:
        assert _NOTE.fullmatch(err), f"{command}: {err}"
        return DONE
    assert re.fullmatch(r"layerdiffuse: [^\n]+\n", err), f"{command}: {err}"
    check_line(err.removesuffix("\n"))
    return REFUSED


@pytest.mark.parametrize("area", command_areas.AREAS)
def test_commands(area, fuzz, files, family, capfd):
    def attempt(rng: Random) -> str:
        emptied(files.folder)
        command = command_areas.AREAS[area](rng, files)
        try:
            return outcome(command, capfd)
        except BaseException as error:
            capfd.readouterr()
            raise AssertionError(f"command: {command}") from error

    fuzz(area, attempt)


def test_batches(fuzz, files, family, capfd, monkeypatch):
    loaded = Models(lambda: WeightStore(family, offline=True))
    monkeypatch.setattr(worker, "Models", lambda _: loaded)
    monkeypatch.setattr(processes, "ProcessPool", batch_area.PoolHere)

    def attempt(rng: Random) -> str:
        emptied(files.folder)
        command = batch_area.batch(rng, files)
        try:
            status = main(command)
            return batch_area.outcome(command, status, capfd.readouterr().err)
        except BaseException as error:
            said = capfd.readouterr().err
            raise AssertionError(f"command: {command}: {said}") from error

    fuzz("batch", attempt)


@pytest.mark.parametrize("area", page_areas.AREAS)
def test_texts(area, fuzz):
    fuzz(area, page_areas.AREAS[area])


def test_requests(webui, models, whole, tmp_path, fuzz):
    ui = WebUI(models, tmp_path / "outputs")
    fuzz("api", lambda rng: page_areas.api(rng, ui, whole))


@pytest.fixture
def interrupts(interruptible: None) -> Iterator[None]:
    """Puts back what a command does with an interrupt."""
    report = sys.unraisablehook
    yield
    sys.unraisablehook = report


# A file that an interrupt has kept from its `with` is closed later; Python tells it to tests only.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_interrupts(fuzz, files, family, capfd, interrupts, monkeypatch):
    """Ctrl-C at any moment ends a command with 130 and no traceback."""
    command = ["layerdiffuse", "generate", "--method=fg_attn_sd15", "--steps=2", "--quiet"]

    def attempt(rng: Random) -> str:
        emptied(files.folder)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.unraisablehook = sys.__unraisablehook__
        monkeypatch.setattr("sys.argv", command)
        timer = threading.Timer(rng.uniform(0.005, 0.7), os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        status = run()
        timer.cancel()
        timer.join()
        err = capfd.readouterr().err
        assert status in (0, 130), (status, err)
        *notes, last = err.splitlines() or [""]
        assert last == ("layerdiffuse: interrupted" if status else ""), err
        assert all("latent" in note for note in notes), err
        return INTERRUPTED if status else DONE

    fuzz("interrupts", attempt)
