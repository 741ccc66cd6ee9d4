"""Job files that are malformed in one way or another, and the commands that run them."""

from __future__ import annotations

import csv
import io
import json
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

from command_areas import SIDE, Files
from mutations import argument, number, spoilt, text, value
from page_areas import DONE, REFUSED, check_line

from lib_layerdiffuse import errors
from lib_layerdiffuse.batch.addresses import resolved
from lib_layerdiffuse.batch.ledger import told_rows
from lib_layerdiffuse.batch.places import place_at
from lib_layerdiffuse.batch.pools import Outcome, Task
from lib_layerdiffuse.batch.worker import Setup, Worker
from lib_layerdiffuse.methods import METHODS

_OF_METHOD = ("strength", "stop_at", "fg_additional_prompt", "bg_additional_prompt", "enabled")
_OF_METHOD += ("resize_mode", "chain", "show_preview", "fg_image", "bg_image", "blend_image")
_OF_JOB = ("prompt", "negative_prompt", "size", "sets", "seed", "steps", "cfg", "sampler", "views")
_OF_JOB += (
    "compiled",
    "init",
    "denoise",
    "layers",
    "trim",
    "second_sampler",
    "second_stop_at",
    "prediction",
)
_NUMBERS = ("size", "sets", "seed", "steps", "cfg", "strength", "stop_at", "denoise", "views")
_IMAGES = ("fg_image", "bg_image", "blend_image", "init")
_ADDRESSES = (
    *("memory://a.png", "memory://", "nonsense://a", "s3://bucket/a.png", "://", "a://b://c"),
    *("http://127.0.0.1:9/a.png", "http://[::1", "file://", "file://a.png", "zip://a.png::b"),
    *(
        "simplecache::memory://a.png",
        "~nobody/x",
        "~no-such-user/x",
        "\0",
        "a\0b",
        "x" * 300,
        "x/" * 3000,
        "/dev/full",
    ),
    *("data:image/png;base64,", "memory://\0", "memory://" + "x" * 300, "local://a.png"),
)
_LORAS = (
    "lora.safetensors",
    ["lora.safetensors:0.5"],
    ["lora:x"],
    [3],
    [[]],
    {},
    ";;",
    [""],
    [":"],
)
_TYPED = {name for name in vars(errors) if name.endswith("Error")} | {"MemoryError"}


def batch(rng: Random, files: Files) -> list[str]:
    """Returns a `batch` of a few rows, most of them malformed."""
    rows = [_row(rng, files) for _ in range(rng.randint(1, 4))]
    as_csv = rng.random() < 0.4
    data = _csv(rows) if as_csv else _json(rows)
    path = files.folder / f"jobs.{'csv' if as_csv else 'jsonl'}"
    path.write_bytes(spoilt(rng, data) if rng.random() < 0.3 else data)
    jobs = rng.choice((*_ADDRESSES, argument(rng))) if rng.random() < 0.05 else str(path)
    command = ["batch", f"--out={_out(rng)}", *_options(rng)]
    return [*command, "--", jobs.replace("\0", "")]


def _row(rng: Random, files: Files) -> dict[str, Any]:
    method = rng.choice(METHODS)
    row: dict[str, Any] = {"method": method.id, "steps": 1, "sampler": "Euler", "cfg": 1}
    row |= {"size": f"{SIDE}x{SIDE}", "views": "1", "prompt": "a boat"}
    for layer in method.inputs if rng.random() < 0.9 else ():
        row["blend_image" if layer.value == "blended" else f"{layer.value}_image"] = files.image(
            rng, whole=0.8
        )
    for _ in range(rng.choice((0, 1, 1, 1, 2, 3))):
        name = rng.choice((*_OF_JOB, *_OF_METHOD, "checkpoint", "loras", "method"))
        row[text(rng)[:20] if rng.random() < 0.05 else name] = _odd(rng, files, name)
    if rng.random() < 0.1:
        del row[rng.choice(list(row))]
    return row


def _odd(rng: Random, files: Files, name: str) -> Any:
    kind = rng.random()
    if name in _IMAGES and kind < 0.7:
        return rng.choice(_ADDRESSES) if kind < 0.4 else files.image(rng)
    if name == "checkpoint" and kind < 0.7:
        return rng.choice(_ADDRESSES) if kind < 0.4 else files.weights(rng, "decoder")
    if name == "loras" and kind < 0.6:
        files.weights(rng, "lora")
        return rng.choice(_LORAS)
    if name in _NUMBERS and kind < 0.5:
        return number(rng)
    return value(rng)


def _json(rows: Sequence[Mapping[str, Any]]) -> bytes:
    lines = []
    for row in rows:
        try:
            lines.append(json.dumps(row))
        except (RecursionError, ValueError):
            lines.append("[" * 5000)
    return "\n".join(lines).encode()


def _csv(rows: Sequence[Mapping[str, Any]]) -> bytes:
    names = list(dict.fromkeys(name for row in rows for name in row))
    with io.StringIO(newline="") as stream:
        writer = csv.writer(stream, escapechar="\\")
        writer.writerow(names)
        writer.writerows([_cell(row.get(name, "")) for name in names] for row in rows)
        return stream.getvalue().encode("utf-8", "surrogatepass")


def _cell(given: Any) -> str:
    try:
        return str(given)
    except (RecursionError, ValueError):
        return "x"


def _out(rng: Random) -> str:
    if rng.random() < 0.85:
        return "out"
    odd = ("", ".", "a.png/b", "/dev/full/x", "x" * 300, "\udcff", *_ADDRESSES)
    return rng.choice(odd).replace("\0", "")


def _options(rng: Random) -> list[str]:
    made = ["--skip-bad"] if rng.random() < 0.7 else []
    if rng.random() < 0.7:
        return made
    for _ in range(rng.randint(1, 2)):
        option = rng.choice(("--batch", "--tries", "--retry-opaque", "--workers", "--for-each-fg"))
        if option == "--for-each-fg":
            made.append(f"{option}={rng.choice(('.', 'absent', *_ADDRESSES))}".replace("\0", ""))
        else:
            made.append(f"{option}={rng.choice(('1', '2', '3', number(rng)))}".replace("\0", ""))
    return [*made, *rng.sample(("--json", "--quiet", "--shards", "--parquet", "--retry-failed"), 1)]


class PoolHere:
    """A worker in this process."""

    def __init__(self, setup: Setup, devices: Sequence[str | None]) -> None:
        self._worker, self._tasks = Worker(setup), deque[Task]()

    def has_room(self, *, by_itself: bool) -> bool:
        return not self._tasks

    def submit(self, task: Task, *, by_itself: bool) -> None:
        self._tasks.append(task)

    def answers(self, timeout: float) -> list[Outcome]:
        task = self._tasks.popleft()
        return [(task.number, self._worker.run(task.requests, task.wanted, task.tries))]

    def close(self) -> None:
        pass


def outcome(command: Sequence[str], status: int, err: str) -> str:
    """Checks how a run has ended: each line says one thing, each row that failed why."""
    for line in err.splitlines():
        assert line.startswith("layerdiffuse: "), err
        check_line(line)
    assert "A file could not" not in err, err  # It has not one line's name but ends them all.
    if status == 2:
        assert err
        return REFUSED
    place = place_at(resolved(command[1].removeprefix("--out="), str(Path.cwd())))
    told = told_rows(place).values()
    failed = [row["error"] for row in told if row["error"]]
    assert status == (1 if failed else 0)
    for error in failed:
        assert error["error"] in _TYPED, error
    return REFUSED if failed else DONE
