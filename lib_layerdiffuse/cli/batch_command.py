"""`layerdiffuse batch`: thousands of rows from one file, resumable."""

from __future__ import annotations

import argparse
import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import SettingsError
from ..methods import Layer
from . import job_options as options
from .batch_progress import Progress
from .described import choice_of, models_of
from .parsing import add_command
from .progress_bars import bars_of
from .stores import store_of

if TYPE_CHECKING:
    from ..batch.places import Place
    from ..batch.pools import Pool
    from ..batch.requests import Checked
    from .parsing import Commands, Parser

_SOME_FAILED = 1


def add_to(commands: Commands) -> None:
    """Adds the command."""
    parser = add_command(
        commands,
        "batch",
        _run,
        "make what each line of a file asks for; run again, it makes what is missing",
    )
    parser.usage = "%(prog)s JOBS [options]\n       %(prog)s status DIR [--json]"
    parser.add_argument(
        "jobs",
        metavar="JOBS",
        help="a file with one JSON object in each line or, by a name that ends in .csv, a table; "
        "or the word `status`, to be told how far a run is",
    )
    parser.add_argument(
        "folder", nargs="?", metavar="DIR", help="after `status`: the folder of that run's --out"
    )
    for layer in Layer:
        parser.add_argument(
            f"--for-each-{layer.value}",
            metavar="DIR",
            help="make each line once for each image of a folder, as its "
            f"{layer.label.lower()} image",
        )
    _add_rules(parser)
    options.add_models(parser)
    group = parser.add_argument_group("output")
    group.add_argument(
        "--out",
        default=str(Path("out", "batch")),
        metavar="DIR",
        help="a folder, or an address such as s3://bucket/run (default: %(default)s)",
    )
    group.add_argument(
        "--shards", action="store_true", help="also put the files into WebDataset shards"
    )
    group.add_argument(
        "--parquet",
        action="store_true",
        help="also put what is told of the rows into a Parquet table; needs the extra [batch]",
    )
    group.add_argument("--json", action="store_true", help="one line of JSON for each row")
    group.add_argument("--quiet", action="store_true", help="no progress and no notes")


def _add_rules(parser: Parser) -> None:
    group = parser.add_argument_group("run")
    add = group.add_argument
    add("--skip-bad", action="store_true", help="leave out lines that cannot be run")
    add(
        "--workers",
        type=options.number(int, 1, 1024),
        metavar="N",
        help="how many processes make rows (default: one for each GPU, or one)",
    )
    add(
        "--address",
        metavar="ADDRESS",
        help="the Ray cluster whose computers make the rows, such as ray://head:10001; auto for "
        "the one that this computer belongs to, or local for one that ends with the run; needs the "
        "extra [batch] (default: processes of this computer)",
    )
    add(
        "--batch",
        type=options.number(int, 1, 256),
        default=4,
        metavar="N",
        help="how many sets run together where the rows allow it (default: %(default)s)",
    )
    add(
        "--tries",
        type=options.number(int, 1, 100),
        default=2,
        metavar="N",
        help="how often a row runs alone before it has failed (default: %(default)s)",
    )
    add("--retry-failed", action="store_true", help="also run what failed in an earlier run")
    add(
        "--retry-opaque",
        type=options.number(int, 0, 100),
        default=0,
        metavar="N",
        help="draw a row up to N times again, with the next seed, while its foreground is not "
        "transparent (default: 0)",
    )


def _run(args: argparse.Namespace) -> int:
    if args.jobs == "status":
        return _status(args)
    if args.folder is not None:
        raise SettingsError(f"There is no use for {args.folder}.", "Name the folder with --out.")
    progress = Progress(quiet=args.quiet, as_json=args.json)
    progress.passing(f"checking {args.jobs}")  # First of all, since the libraries take seconds.
    from ..batch.addresses import resolved
    from ..batch.figures import left_out
    from ..batch.parquet import check_parquet
    from ..batch.places import place_at
    from ..batch.runs import Rules, held, run
    from ..batch.sheet import SHEET

    if args.parquet:
        check_parquet()
    place = place_at(resolved(args.out, str(Path.cwd())))
    with progress, _ended_in_words(progress, place), held(place):
        checked = _checked(args)
        if checked.bad and not _skipped(args, checked, progress):
            return 2
        if not checked.requests:
            raise SettingsError("There is no row to run.", "Write one into the job file.")
        rules = Rules(
            args.batch, args.tries, args.retry_failed, shards=args.shards, parquet=args.parquet
        )
        tally = run(place, checked, rules, lambda: _pool(args, place), progress.begin)
    progress.note(f"{tally.sentence()}{left_out(len(checked.bad))}: {place.address}/{SHEET}")
    return _SOME_FAILED if tally.failed else 0


@contextmanager
def _ended_in_words(progress: Progress, place: Place) -> Iterator[None]:
    """Takes the system's wish that the run ends for an interrupt, and says what becomes of it."""
    before, interrupt = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGTERM, interrupt if callable(interrupt) else signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        progress.note(f"what is done stays in {place.address}; the same command makes the rest")
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def _checked(args: argparse.Namespace) -> Checked:
    from ..batch.addresses import folder_of, resolved
    from ..batch.job_file import for_each, read_job_file
    from ..batch.requests import Checker
    from ..settings.layer_settings import api_name

    here = str(Path.cwd())
    jobs = resolved(args.jobs, here)
    lines = read_job_file(jobs)
    for layer in Layer:
        folder = getattr(args, f"for_each_{layer.value}")
        if folder is not None:
            lines = for_each(lines, api_name(f"{layer.value}_image"), resolved(folder, here))
    with bars_of(args) as bars:
        models = models_of(args, bars.download)
        return Checker(models, choice_of(args), folder_of(jobs)).check(lines)


def _skipped(args: argparse.Namespace, checked: Checked, progress: Progress) -> bool:
    """Tells of each bad line; whether the others run all the same."""
    from ..batch.figures import counted

    for one in checked.bad:
        progress.json(one.as_dict())
        progress.line(str(one))
    if not args.skip_bad:
        count = counted(len(checked.bad), "line")
        progress.line(
            f"nothing was run, because of {count}; mend them, or leave them out with --skip-bad"
        )
    return bool(args.skip_bad)


def _pool(args: argparse.Namespace, place: Place) -> Pool:
    from ..batch.processes import ProcessPool
    from ..batch.worker import Setup

    store = store_of(args, makes_folder=True)
    setup = Setup(
        place.address,
        choice_of(args),
        (store.folder, *store.extra_folders),
        args.offline,
        args.batch,
        args.retry_opaque,
    )
    if args.address is not None:
        from ..batch.ray_pool import RayPool

        return RayPool(setup, args.address, args.workers)
    return ProcessPool(setup, _devices(args))


def _devices(args: argparse.Namespace) -> list[str | None]:
    import torch

    here = torch.cuda.device_count()
    if args.device is not None or not here:
        return [args.device] * (args.workers or 1)
    return [f"cuda:{index % here}" for index in range(args.workers or here)]


def _status(args: argparse.Namespace) -> int:
    from ..batch.addresses import resolved
    from ..batch.figures import left_out
    from ..batch.places import place_at
    from ..batch.runs import status_of

    if args.folder is None:
        raise SettingsError("There is no folder after `status`.", "Name the one of --out.")
    found = status_of(place_at(resolved(args.folder, str(Path.cwd()))))
    if args.json:
        print(json.dumps(found.as_dict()))
        return 0
    states = {True: "It is running.", False: "It is not running.", None: ""}
    print(f"{found.tally.sentence()}{left_out(found.bad)}. {states[found.running]}".rstrip())
    return 0
