"""A long run that everything happens to: nothing lost, nothing twice, nothing half written."""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

import batch_run
import pytest
from batch_kills import Kills, Run, Witness
from batch_run import CRASHES, results
from processes_here import memory_of
from ray_nodes import Cluster, in_namespaces_or_on_loopback

_RAY = find_spec("ray") is not None
_OPTIONS = ("--skip-bad", "--tries", "1", "--workers")
ROWS = int(os.environ.get("LAYERDIFFUSE_BATCH_ROWS", "60"))
KILLS = int(os.environ.get("LAYERDIFFUSE_BATCH_KILLS", "6"))
SEED = int(os.environ.get("LAYERDIFFUSE_BATCH_SEED", "7"))


class Story:
    """One run of many rows, begun again whenever it has ended.

    Args:
        folder: For its files.
        cluster: Of Ray; None for processes.
        say: Tells a person how far it is.
    """

    def __init__(self, folder: Path, cluster: Cluster | None, say: Callable[[str], None]) -> None:
        self._cluster, self._say, self._chance = cluster, say, random.Random(SEED)
        self.jobs, self.bad = batch_run.of_all_methods(folder, ROWS)
        self.whole, self.out = folder / "whole", folder / "out"
        self._witness, self._run = Witness(self.out), None
        self._begun = 0
        self._undisturbed = Run(self.jobs, self.whole, *_OPTIONS, "1")
        self._held: dict[int, int] = {}

    def undisturbed(self) -> str:
        """Waits for the end of a run in processes, which has begun before; what that said."""
        assert self._undisturbed.wait() == 1, self._undisturbed.said  # One row crashes its worker.
        self._say(f"undisturbed: MiB of the worker by rows done: {self._held}")
        return self._undisturbed.said

    def disturbed(self) -> None:
        kills = Kills(self._chance)
        kinds = self._kinds()
        for number, kind in enumerate(kinds, 1):
            run = self._reach(ROWS * (number - 1) // (KILLS + 1))
            assert not run.ended, run.said
            status = getattr(kills, kind)(run)
            if status is not None:
                assert run.wait() == status, run.said
                self._run = None
            self._witness.look()
            other = self._undisturbed
            held = max(map(memory_of, other.workers), default=0) >> 20
            self._held[other.done()] = held
            self._say(f"{number}. {kind}: {run.done()} of {ROWS} rows; undisturbed: {other.done()}")
        run = self._reach(10 * ROWS)
        assert run.wait() == 1, run.said
        self._witness.look()
        self._say(f"killed: {dict(Counter(kinds))}, in {self._begun} runs")

    def _kinds(self) -> list[str]:
        """The kinds of kill in the order in which they come, each as often as any other."""
        kinds = ["driver", "worker", "write", "row", "disk"]
        kinds += [] if self._cluster is None else ["node"]
        found = [kinds[index % len(kinds)] for index in range(KILLS)]
        self._chance.shuffle(found)
        return found

    def _reach(self, done: int) -> Run:
        """The run, once more rows than so many are done and a worker is there, or it has ended."""
        if self._run is None:
            workers = str(self._chance.choice([1] * 5 + [2]))
            self._run = Run(self.jobs, self.out, *_OPTIONS, workers, cluster=self._cluster)
            self._begun += 1
        run = self._run
        begun = run.done()
        while not run.ended and (run.done() <= max(done, begun) or not run.workers):
            time.sleep(0.5)
        time.sleep(self._chance.uniform(0, 0.5))
        return run

    def close(self) -> None:
        for run in (self._undisturbed, self._run):
            if run is not None:
                run.process.kill()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_killed_at_any_point_nothing_is_lost_or_made_twice(tmp_path, capsys):
    """`make e2e-batch` runs it with 2,000 rows and 50 kills."""

    def say(text: str) -> None:
        with capsys.disabled():
            print(f"\n{time.strftime('%H:%M:%S')} {text}", end="", flush=True)

    with ExitStack() as until_end:
        cluster = None
        if _RAY:
            cluster = Cluster(until_end.enter_context(in_namespaces_or_on_loopback()), (0, 2))
            until_end.callback(cluster.close)
        story = Story(tmp_path, cluster, say)
        until_end.callback(story.close)
        story.disturbed()
        said = f"\n{story.undisturbed()}"
    assert all(f"\nlayerdiffuse: line {number}" in said for number in story.bad)
    there = results(story.out)
    assert len(there) == ROWS
    assert there == results(story.whole)
    told = batch_run.told(story.out)
    assert sorted(one["id"] for one in told) == sorted(there)
    assert [one["request"]["prompt"] for one in told if one["error"]] == [CRASHES]
    assert not list(story.out.rglob("*.part"))
