"""Trains the whole tiny family, one step after the other: `python -m training`.

A run that was stopped goes on where it was. Afterwards the models lie in the data folder as the
package keeps them: `sd15/`, `sdxl/` and `layer_model/`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from lib_layerdiffuse.methods import METHODS, Arch

# Minutes of each step in a run of `--hours 1` on one CPU core; they are scaled together.
STEPS: tuple[tuple[float, tuple[str, ...]], ...] = (
    (10, ("vae",)),
    (5, ("vae", "--decoder")),
    (7, ("codec",)),
    (10, ("decoder",)),
    *((10, ("base", arch.name)) for arch in Arch),
    (2, ("control",)),
    # Those of one frame first, then the joint method: the others start from what they learnt.
    *((1.6, ("method", m.id)) for m in sorted(METHODS, key=lambda m: (m.frames > 1, -m.frames))),
)


def main() -> None:
    """Runs every step in a process of its own."""
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("out/training"))
    parser.add_argument("--scenes", type=int, default=24000)
    parser.add_argument("--hours", type=float, default=4, help="for all steps together")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    data = ("--data", str(options.data))

    def step(*arguments: str) -> None:
        print("==", *arguments, flush=True)
        subprocess.run(
            [sys.executable, "-m", f"training.{arguments[0]}", *arguments[1:]], check=True
        )

    if not (options.data / "scenes.json").exists():
        step("data", *data, "--count", str(options.scenes))
    scale = options.hours * 60 / sum(minutes for minutes, _ in STEPS)
    for minutes, arguments in STEPS:
        if arguments[0] == "base" and not (options.data / "latents_fg.npy").exists():
            step("latents", *("bg", "blended", "plain", "grey", "fg"), *data)
        time = ("--minutes", str(minutes * scale), "--threads", str(options.threads))
        step(*arguments, *data, *time)


if __name__ == "__main__":
    main()
