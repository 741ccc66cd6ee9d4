"""Step 6: puts the trained family into the package, with its checksums."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from lib_layerdiffuse import tiny
from lib_layerdiffuse.methods import Arch
from lib_layerdiffuse.released import WEIGHT_FILES
from lib_layerdiffuse.weights.checksums import sha256_of

LIMIT = 32_000_000
"""Bytes of all models together."""


def install(data: Path, folder: Path = tiny.FOLDER) -> int:
    """Copies both checkpoints and the fourteen layer files; returns their size in bytes.

    Raises:
        FileNotFoundError: A step has not been run.
        ValueError: They are too large for the package.
    """
    for arch in Arch:
        name = tiny.checkpoint(arch).name
        shutil.copytree(data / arch.name.lower(), folder / name, dirs_exist_ok=True)
    layers = folder / "layer_model"
    layers.mkdir(parents=True, exist_ok=True)
    lines = []
    for file in WEIGHT_FILES.values():
        path = Path(shutil.copy(data / "layer_model" / file.filename, layers))
        lines.append(f"{sha256_of(path)}  {file.filename}\n")
    (layers / "SHA256SUMS").write_text("".join(lines), "utf-8")
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    if size > LIMIT:
        raise ValueError(f"Expected at most {LIMIT} bytes, got {size}.")
    return size


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("out/training"))
    options = parser.parse_args()
    print(f"{install(options.data) / 1e6:.1f} MB in {tiny.FOLDER}")
