"""One measured run of the transparent decoder, in a process of its own; prints JSON.

The original's arrangement is its eight passes one after the other, each of one picture, through
the standard blocks of the diffusers package, and the median of five axes. With `--quick` one of
the passes is run, with seven results beside it as the last one has, and its time counts eightfold;
of ours one view, beside as much as the median of all holds, as often as there are views.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "fakes")]

from codec_oracles import DiffusersUNet1024  # noqa: E402
from tiny_codec import released_shapes, seeded_weights, tiny_inputs  # noqa: E402

from lib_layerdiffuse.codec.transparent import TransparentDecoder  # noqa: E402
from lib_layerdiffuse.codec.views import (  # noqa: E402
    ADAPTIVE,
    VIEWS,
    Views,
    most_views,
    turn,
    turn_back,
)

LAYOUT: dict[str, Any] = {
    "widths": (32, 32, 64, 128, 256, 512, 512),
    "blocks": 2,
    "attention": (False,) * 4 + (True,) * 3,
}


def original(net: DiffusersUNet1024, pixels: Tensor, latent: Tensor, quick: bool) -> Tensor:
    """Returns `1 4 H W`, R G B A, as the original arranges it; one view of it where `quick`."""
    found: list[Tensor] = []
    if quick:
        found = [torch.zeros_like(pixels[:, :1]).repeat(1, 4, 1, 1) for _ in VIEWS[1:]]
    for view in VIEWS[:1] if quick else VIEWS:
        inputs = (turn(x, *view) for x in (pixels, latent))
        found.append(turn_back(net(*inputs).clamp(0, 1), *view))
    median = torch.median(torch.stack(found), dim=0).values
    return (found[-1] if quick else median).roll(-1, dims=1).float()


def measured(args: argparse.Namespace) -> dict[str, float]:
    """Returns seconds, of the processor as well, and the peak of memory, in all and of the run."""
    device, dtype = torch.device(args.device), getattr(torch, args.dtype)
    weights = {  # As in the released file.
        name: tensor.half() for name, tensor in seeded_weights(released_shapes("decoder")).items()
    }
    pixels, latent = (x.to(device, dtype) for x in tiny_inputs(args.side, args.side))
    if args.way == "original":
        net = DiffusersUNet1024.load(weights, **LAYOUT).to(device, dtype)

        def run() -> Tensor:
            return original(net, pixels, latent, args.quick)
    else:
        decoder = TransparentDecoder.from_state_dict(weights, dtype=dtype, device=device)
        views: Views = int(args.way) if args.way.isdecimal() else ADAPTIVE
        taken = 1 if args.quick else views
        kept = (most_views(views) + 1) // 2 - 1 if args.quick else 0

        def run() -> Tensor:
            beside = [pixels.new_ones(1, 4, args.side, args.side).float() for _ in range(kept)]
            found = decoder.decode(pixels, latent, views=taken).cpu()
            del beside
            return found

    del weights
    with torch.no_grad():
        if device.type == "cuda":
            run()
            torch.cuda.reset_peak_memory_stats()
        before = _held(device)
        if device.type == "cpu":  # Weights took more while they were made.
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        wall, cpu = time.perf_counter(), time.process_time()
        made = run().cpu()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = _peak(device)
    torch.save(made, args.out)
    times = 1
    if args.quick:
        times = 8 if args.way == "original" else most_views(views)
    return {"wall": times * wall, "cpu": times * cpu, "peak": peak, "run": peak - before}


def _peak(device: torch.device) -> float:
    """Returns the MiB of the run's peak, all that was there before included."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    status = Path("/proc/self/status").read_text(encoding="ascii")
    (most,) = (line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
    return int(most) / 1024


def _held(device: torch.device) -> float:
    """Returns the MiB that libraries, weights and the image take, before anything is run."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated() / 2**20
    return float(psutil.Process().memory_info().rss / 2**20)


def main() -> None:
    """Measures once."""
    parser = argparse.ArgumentParser()
    for name in ("way", "side", "device", "dtype", "out"):
        parser.add_argument(f"--{name}", required=True, type=int if name == "side" else str)
    parser.add_argument("--quick", action="store_true")
    print(json.dumps(measured(parser.parse_args())))


if __name__ == "__main__":
    main()
