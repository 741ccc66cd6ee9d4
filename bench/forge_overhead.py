"""What attention sharing costs in a real Forge, against plain SD1.5 and a naive way.

Needs LAYERDIFFUSE_FORGE_DIR, like the end-to-end tests, and uses their random weights.
LAYERDIFFUSE_BENCH_SIZE is the image's side, by default 256. LAYERDIFFUSE_BENCH_ARGS are the
host's arguments, by default those for the CPU; with "" it runs on the GPU.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "e2e")]

import random_weights  # noqa: E402
from forge_server import ForgeServer  # noqa: E402
from model_cache import cache_folder, write_all  # noqa: E402
from server_process import OFFLINE  # noqa: E402


def run_steps(forge: Path, python: Path, cache: Path, size: int) -> dict:
    """Returns what `forge_steps.py` measures."""
    command = [
        str(python),
        str(ROOT / "bench" / "forge_steps.py"),
        f"--forge={forge}",
        f"--extension={ROOT}",
        f"--checkpoint={cache / 'checkpoints' / random_weights.SD15}",
        f"--weights={cache / 'layer_model'}",
        f"--size={size}",
        *os.environ.get("LAYERDIFFUSE_BENCH_ARGS", "--always-cpu --unet-in-fp16").split(),
    ]
    done = subprocess.run(
        command, cwd=forge, env={**os.environ, **OFFLINE}, stdout=subprocess.PIPE, check=True
    )
    return json.loads(done.stdout.decode().splitlines()[-1])


def import_seconds(forge: Path, python: Path) -> float:
    """Returns how long Forge took to load the extension's script, by its own record."""
    with tempfile.TemporaryDirectory() as folder:
        server = ForgeServer(
            forge, python, Path(folder), extensions={"layerdiffuse": ROOT}, web_page=True
        )
        with server, urllib.request.urlopen(f"{server.url}/internal/profile-startup") as answer:
            records = json.load(answer)["records"]
    return records["load scripts/layerdiffuse.py"]


def table(times: dict, imported: float, size: int) -> list[tuple[str, str, str]]:
    """Returns the rows: what, measured, goal."""
    rows = []
    for (method, t), share in zip(times["steps"].items(), ("1/3", "2/3", "2/3"), strict=True):
        ratio = (t["ours"] - t["plain"]) / (t["naive"] - t["plain"])
        step = f"{t['plain']:.2f} / {t['ours']:.2f} / {t['naive']:.2f} s"
        rows.append((f"{method}: step plain / ours / naive, {size}²", step, ""))
        rows.append((f"{method}: overhead, ours : naive", f"{ratio:.2f}", f"≤ {share}"))
    for method, t in times["setup"].items():
        rows.append((f"{method}: first set-up, with merging", f"{t['first']:.2f} s", ""))
        later = f"{t['second']:.2f} s (+ {t['second_step_extra']:.2f} s in the first step)"
        rows.append((f"{method}: second set-up", later, "≤ 0.2 s"))
    ratio = times["stop_at"]["0.5"] / times["stop_at"]["1.0"]
    rows.append(("joint_sd15: stop-at 0.5 : stop-at 1", f"{ratio:.2f}", "≤ 1"))
    rows.append(("loading the script in Forge", f"{imported:.2f} s", "≤ 0.3 s"))
    return rows


def main() -> None:
    """Prints its part of the table."""
    folder = os.environ.get("LAYERDIFFUSE_FORGE_DIR")
    if not folder:
        print("In a real Forge: skipped, LAYERDIFFUSE_FORGE_DIR is not set")
        return
    forge = Path(folder).expanduser()
    python = Path(os.environ.get("LAYERDIFFUSE_FORGE_PYTHON", forge / "venv" / "bin" / "python"))
    cache = cache_folder()
    size = int(os.environ.get("LAYERDIFFUSE_BENCH_SIZE", "256"))
    write_all(cache, report=lambda line: None)
    imported = import_seconds(forge, python)
    for what, measured, goal in table(run_steps(forge, python, cache, size), imported, size):
        print(f"{what:<52} {measured:<42} {goal}")
