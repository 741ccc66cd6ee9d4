"""Rows on a Ray cluster that is started here: the same files, also when actors die."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from subprocess import CalledProcessError, run

import batch_run
import doomed
import pytest
from batch_kills import Run
from batch_run import results, rows, setup
from processes_here import SOON, wait_for
from ray_nodes import RAY, Cluster, in_namespaces, on_loopback

from lib_layerdiffuse.batch import runs
from lib_layerdiffuse.batch.places import place_at
from lib_layerdiffuse.batch.ray_pool import _NO_NETWORK
from lib_layerdiffuse.batch.worker import Worker
from lib_layerdiffuse.cli import main


def test_without_ray_it_is_told_what_to_install(tmp_path, capfd, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setenv(*_NO_NETWORK)  # Else the command leaves it to the tests after this one.
    jobs = batch_run.job_file(tmp_path / "j.jsonl", rows(1))
    assert main(["batch", str(jobs), "--out", str(tmp_path / "out"), "--address", "local"]) == 2
    assert 'pip install ".[batch]"' in capfd.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")
@pytest.mark.filterwarnings("ignore")
class TestCluster:
    @pytest.fixture(autouse=True)
    def _quiet_ray(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in RAY.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))

    @pytest.fixture
    def checked(self, tmp_path: Path):
        return self.made(tmp_path, rows(10))

    def made(self, folder: Path, lines):
        """Returns rows, once a worker without Ray has made them."""
        found = batch_run.checked(batch_run.job_file(folder / "j.jsonl", lines))
        whole = Worker(setup(folder / "whole"))
        for start in range(0, len(lines), 4):
            chunk = found.requests[start : start + 4]
            whole.run(chunk, {one.id for one in chunk})
        return found

    def run(self, *given) -> None:
        """Runs rows in a process of its own: Ray keeps for good which network it has seen."""
        process = multiprocessing.get_context("fork").Process(target=self._run, args=given)
        process.start()
        process.join(SOON)
        assert process.exitcode == 0

    def _run(self, checked, out: Path, meanwhile) -> None:
        from lib_layerdiffuse.batch.ray_pool import LOCAL, RayPool

        place, pools = place_at(str(out)), []

        def pool():
            pools.append(RayPool(setup(out), LOCAL, 2))
            return pools[0]

        seen = []

        def on_row(told):
            seen.append(told)
            meanwhile(pools[0], len(seen))

        rules = runs.Rules(most=4, tries=2, again=False)
        with runs.held(place):
            runs.run(place, checked, rules, pool, lambda _: on_row)

    def test_it_makes_the_same_files(self, tmp_path, checked):
        self.run(checked, tmp_path / "out", lambda *_: None)
        assert results(tmp_path / "out") == results(tmp_path / "whole")

    def test_an_actor_that_is_killed_costs_nothing(self, tmp_path, checked):
        def kill(pool, done):
            import ray

            if done == 1:
                for actor in pool._workers:
                    asked = actor.handle.__ray_call__.remote(lambda _: os.getpid())
                    os.kill(ray.get(asked), signal.SIGKILL)
                (tmp_path / "killed").touch()

        self.run(checked, tmp_path / "out", kill)
        assert (tmp_path / "killed").exists()
        assert results(tmp_path / "out") == results(tmp_path / "whole")
        told = batch_run.told(tmp_path / "out")
        assert sorted(one["id"] for one in told) == sorted(one.id for one in checked.requests)

    def test_a_cluster_of_its_own_is_out_of_others_reach(self, tmp_path):
        code = (
            "import batch_run; from lib_layerdiffuse.batch.ray_pool import LOCAL, RayPool; "
            f"RayPool(batch_run.setup({str(tmp_path)!r}), LOCAL, 1); "
            "import ray; print(*{one['NodeManagerAddress'] for one in ray.nodes()})"
        )
        found = run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
        assert found.stdout.split() == ["127.0.0.1"]

    @pytest.mark.parametrize("places", [in_namespaces, on_loopback])
    def test_a_node_that_is_lost_costs_nothing(self, tmp_path, places):
        """The second actor has no place any more, and the first one makes all rows."""
        checked = self.made(tmp_path, rows(120, size="64", views="1"))
        with ExitStack() as until_end:
            try:
                found = until_end.enter_context(places())
            except (OSError, CalledProcessError) as error:
                pytest.skip(f"no network namespaces can be made here: {error}")
            cluster = Cluster(found)
            until_end.callback(cluster.close)
            out = tmp_path / "out"
            run = Run(tmp_path / "j.jsonl", out, "--workers", "2", cluster=cluster)
            until_end.callback(run.process.kill)
            wait_for(lambda: run.ended or (run.done() > 0 and len(run.workers) == 2))
            assert not run.ended, run.said
            cluster.kill_other()
            assert run.wait() == 0, run.said
        assert results(out) == results(tmp_path / "whole")
        assert len(batch_run.told(out)) == len(checked.requests)

    def test_a_node_that_is_lost_while_workers_begin_is_no_fault_of_theirs(self, tmp_path):
        jobs, out = batch_run.job_file(tmp_path / "j.jsonl", rows(4)), tmp_path / "out"
        with ExitStack() as until_end:
            cluster = Cluster(until_end.enter_context(on_loopback()), (0, 3))
            until_end.callback(cluster.close)
            not_yet = doomed.order(out, doomed.NOT_YET)
            not_yet.parent.mkdir()
            not_yet.touch()
            run = Run(jobs, out, "--workers", "3", cluster=cluster)
            until_end.callback(run.process.kill)
            wait_for(lambda: run.ended or len(run.workers) == 3)
            assert not run.ended, run.said
            cluster.kill_other()
            cluster.start_other()
            not_yet.unlink()
            assert run.wait() == 0, run.said
        assert len(results(out)) == 4
        assert run.said.count("layerdiffuse: the cluster has lost its node ") == 1

    def test_a_cluster_without_a_place_is_told_of_once_and_waited_for(self, tmp_path, monkeypatch):
        jobs, out = batch_run.job_file(tmp_path / "j.jsonl", rows(1)), tmp_path / "out"
        monkeypatch.setattr("lib_layerdiffuse.batch.ray_pool._PATIENCE", 1.0)
        with ExitStack() as until_end:
            cluster = Cluster(until_end.enter_context(on_loopback()), (0, 0))
            until_end.callback(cluster.close)
            run = Run(jobs, out, cluster=cluster)
            until_end.callback(run.process.kill)
            note = (
                "layerdiffuse: no worker has begun for 1 s. Each needs 1 CPU on one node; the "
                "cluster has 0 CPUs, of which 0 CPUs are free; "
            )
            wait_for(lambda: run.ended or note in run.said)
            assert not run.ended, run.said
            time.sleep(2)
            cluster.start_other(cpus=1)
            assert run.wait() == 0, run.said
        assert run.said.count("no worker has begun") == 1
