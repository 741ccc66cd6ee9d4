"""The folder of random weights that the end-to-end tests share, and the families in it.

Environment:
    LAYERDIFFUSE_E2E_CACHE: The folder, by default ``~/.cache/layerdiffuse-e2e``.
    LAYERDIFFUSE_E2E_FAMILIES: The families whose weights are written, by default "SD1.5 SDXL":
        25 GB; "SD1.5" alone takes 5 GB. Tests that load a checkpoint of another are skipped.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from random_weights import CHECKPOINTS, LAYER_WEIGHTS, Pool, write_file

from lib_layerdiffuse.methods import Arch
from lib_layerdiffuse.weights.checksums import sha256_of


def cache_folder() -> Path:
    """Returns the folder of the files, which may be empty yet."""
    default = Path.home() / ".cache" / "layerdiffuse-e2e"
    return Path(os.environ.get("LAYERDIFFUSE_E2E_CACHE", default)).expanduser()


def families() -> list[Arch]:
    """Returns the families whose weights are written."""
    named = os.environ.get("LAYERDIFFUSE_E2E_FAMILIES", "SD1.5 SDXL").split()
    return [Arch(name) for name in named]


def of_families(names: Iterable[str]) -> list[str]:
    """Returns the names of the files that belong to the families whose weights are written."""
    return [name for name in names if _family(name) in families()]


def skip_without(*checkpoints: str | None) -> None:
    """Skips the running test if one of these random checkpoints is of another family."""
    for name in CHECKPOINTS.keys() & set(checkpoints):
        if _family(name) not in families():
            pytest.skip(f"needs {name}, which LAYERDIFFUSE_E2E_FAMILIES leaves out")


def write_all(folder: Path, report: Callable[[str], None] = print) -> None:
    """Fills a cache folder: ``checkpoints/`` and ``layer_model/``, about 22 GB in all."""
    pool = Pool()
    for subfolder, specs in (("checkpoints", CHECKPOINTS), ("layer_model", LAYER_WEIGHTS)):
        (folder / subfolder).mkdir(parents=True, exist_ok=True)
        for name in of_families(specs):
            spec = specs[name]
            written = write_file(folder / subfolder / name, spec, pool)
            size = (folder / subfolder / name).stat().st_size
            known = "" if spec.size is None else f", released size {spec.size}"
            report(f"{'wrote' if written else 'kept'} {name}: {size} bytes{known}")
    write_sums(folder / "layer_model")


def write_sums(folder: Path) -> Path:
    """Vouches for the layer weights in a ``SHA256SUMS`` beside them; returns it."""
    sums = folder / "SHA256SUMS"
    files = [folder / name for name in of_families(LAYER_WEIGHTS)]
    newest = max(file.stat().st_mtime for file in files)
    if not sums.exists() or sums.stat().st_mtime < newest:
        lines = [f"{sha256_of(file)}  {file.name}\n" for file in files]
        sums.write_text("".join(lines))
    return sums


def _family(name: str) -> Arch:
    return Arch.SD15 if "sd15" in name else Arch.SDXL
