"""Weight files of a few bytes, and a store's folder as others see it."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import save

from lib_layerdiffuse.released import WeightFile

ROOT = Path(__file__).parents[2]
NAME = "tiny.safetensors"
GOOD = save({"a": torch.arange(6.0).reshape(2, 3)})
BIG = random.Random(0).randbytes(1_500_000)


def weight(data: bytes, stem: str = "tiny", *, sized: bool = True) -> WeightFile:
    return WeightFile(stem, hashlib.sha256(data).hexdigest(), len(data) if sized else None)


TINY = weight(GOOD)
LARGE = weight(BIG)


def spoilt(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


def vouch(path: Path, sha256: str | None = None, form: str = "{0}  {1}\n") -> None:
    sha256 = sha256 or hashlib.sha256(path.read_bytes()).hexdigest()
    (path.parent / "SHA256SUMS").write_text(form.format(sha256, path.name))


def left_over(folder: Path) -> list[str]:
    """Returns the names that a user, or another program, sees in the folder."""
    return sorted(p.name for p in folder.iterdir() if p.name != ".layerdiffuse")


def parts(folder: Path) -> list[Path]:
    return list((folder / ".layerdiffuse").glob("*.part"))


def begin(folder: Path, data: bytes) -> None:
    """Leaves a partial download of TINY behind."""
    (folder / ".layerdiffuse").mkdir()
    (folder / ".layerdiffuse" / f"{NAME}.{TINY.sha256[:8]}.part").write_bytes(data)


def child(folder: Path, data: bytes, endpoint: str) -> subprocess.Popen[str]:
    """Starts another Python that ensures a file of these bytes and prints its path."""
    file = weight(data)
    code = (
        "import sys; from pathlib import Path\n"
        "from lib_layerdiffuse.methods import WeightFile\n"
        "from lib_layerdiffuse.weights.store import WeightStore\n"
        "folder, stem, sha, size = sys.argv[1:]\n"
        "print(WeightStore(Path(folder)).ensure(WeightFile(stem, sha, int(size))))\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code, str(folder), file.stem, file.sha256, str(file.size)],
        cwd=ROOT,
        env=os.environ | {"HF_ENDPOINT": endpoint},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
