"""Rows by one and by two worker processes of `layerdiffuse batch`, side by side, on the CPU.

    python bench/bench_batch.py                     # three minutes on an idle machine
    python bench/bench_batch.py --rounds 2 --workers 1 2 4
    python bench/bench_batch.py --workers 1 --unpinned  # a minute: how much time goes into networks

The tiny family draws. Each worker has a processor of its own, since one alone would use two, for
sampling and for decoding beside it. `--unpinned` lets it: then the share of sampling is that of the
time in which networks are at work. What is measured begins when each worker has had a chunk of
rows, and ends before the last ones, so that neither loading counts nor that some have nothing to do
any more. A machine that is busy with other work spoils rows per second, and with them the
efficiency; seconds of processor time per row it spoils less. The load is printed, to tell.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # Of the workers, too.
sys.path[:0] = [str(Path(__file__).resolve().parent.parent)]

import psutil  # noqa: E402  # accelerate brings it.

from lib_layerdiffuse.batch import runs  # noqa: E402
from lib_layerdiffuse.batch.job_file import read_job_file  # noqa: E402
from lib_layerdiffuse.batch.places import place_at  # noqa: E402
from lib_layerdiffuse.batch.processes import ProcessPool  # noqa: E402
from lib_layerdiffuse.batch.requests import Checked, Checker  # noqa: E402
from lib_layerdiffuse.batch.worker import Setup  # noqa: E402
from lib_layerdiffuse.standalone.models import ModelChoice, Models  # noqa: E402
from lib_layerdiffuse.weights.store import WeightStore  # noqa: E402

AT_ONCE = 4
"""Rows of a chunk."""


@dataclass
class Watch:
    """What is seen of one run, without the first and the last chunk of each worker."""

    workers: int
    of: int
    rows: int = 0
    wall: float = 0.0
    sampling: float = 0.0
    decoding: float = 0.0
    in_workers: float = 0.0
    in_driver: float = 0.0

    def begin(self, _: object) -> Callable[[Mapping[str, Any]], None]:
        """Returns what is called with each row."""
        warm = self.workers * AT_ONCE
        seen = 0
        start: tuple[float, float, float] = (0.0, 0.0, 0.0)

        def tell(told: Mapping[str, Any]) -> None:
            nonlocal seen, start
            seen += 1
            now = time.perf_counter(), _of_children(), time.process_time()
            if seen <= warm:
                start = now
                return
            if seen > self.of - warm:
                return
            self.rows += 1
            self.sampling += told["times"]["sampling"]
            self.decoding += told["times"]["decoding"]
            ends = (end - begun for end, begun in zip(now, start, strict=True))
            self.wall, self.in_workers, self.in_driver = ends

        return tell

    @property
    def rate(self) -> float:
        """Rows in a second."""
        return self.rows / self.wall


class PinnedPool(ProcessPool):
    """Each of its workers has a processor of its own, where the system knows such a thing."""

    def _start(self, worker: Any) -> None:
        super()._start(worker)
        process = psutil.Process(worker.process.pid)
        if hasattr(process, "cpu_affinity"):
            process.cpu_affinity([self._workers.index(worker) % (os.cpu_count() or 1)])


def _of_children() -> float:
    """Returns the processor time of all workers so far, in seconds."""
    times = [psutil.Process(one.pid).cpu_times() for one in multiprocessing.active_children()]
    return sum(one.user + one.system for one in times)


def checked(folder: Path, rows: int, steps: int) -> Checked:
    """Returns a job file's rows, all of one group."""
    row = {"method": "fg_attn_sd15", "steps": steps, "sampler": "Euler"}
    lines = [json.dumps({**row, "prompt": f"a red mushroom {i}", "seed": i}) for i in range(rows)]
    path = folder / "jobs.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    models = Models(lambda: WeightStore(folder, offline=True))
    return Checker(models, ModelChoice(), str(folder)).check(read_job_file(str(path)))


def watched(workers: int, jobs: Checked, folder: Path, pool: type[ProcessPool]) -> Watch:
    """Returns what was seen of a run by so many workers."""
    place = place_at(str(folder))
    setup = Setup(place.address, ModelChoice(), (folder,), most=AT_ONCE)
    watch = Watch(workers, len(jobs.requests))
    rules = runs.Rules(most=AT_ONCE, tries=1, again=False)
    with runs.held(place):
        runs.run(place, jobs, rules, lambda: pool(setup, [None] * workers), watch.begin)
    return watch


def line(one: Watch, rate_of_one: float) -> str:
    """Returns a line of the table."""
    whole = one.wall * one.workers
    return (
        f"{one.workers:7} {one.rate:10.3f} {one.rate / one.workers / rate_of_one:11.2f} "
        f"{one.sampling / whole:10.0%} {one.decoding / whole:10.0%} "
        f"{one.in_workers / one.rows:14.2f} {1e3 * one.in_driver / one.rows:14.1f}"
    )


def main() -> None:
    """Prints a table for each round."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, default=80)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--unpinned", action="store_true")
    args = parser.parse_args()
    least = 3 * AT_ONCE * max(args.workers)
    if args.rows < least:
        parser.error(f"--rows has to be {least} or more for so many workers")
    pool = ProcessPool if args.unpinned else PinnedPool
    print("workers     rows/s  efficiency   sampling   decoding  CPU s a row  driver CPU ms")
    for index in range(args.rounds):
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            jobs = checked(folder, args.rows, args.steps)
            seen = [watched(n, jobs, folder / str(n), pool) for n in args.workers]
        for one in seen:
            print(line(one, seen[0].rate / seen[0].workers), flush=True)
        load, processors = os.getloadavg()[0], os.cpu_count()
        print(f"round {index + 1}: load {load:.1f} on {processors} processors", flush=True)


if __name__ == "__main__":
    main()
