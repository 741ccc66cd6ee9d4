"""The transparent decoder against the original's arrangement; what else a job waits for.

    python bench/bench_decoder.py                      # all, where a GPU is on it, else on the CPU
    python bench/bench_decoder.py --sides 512 --quick  # one pass of each, counted eightfold
    python bench/bench_decoder.py --rounds 3           # the smallest time of three

Weights are random with the released file's shapes, so that differences say how well the numbers
agree, and nothing of what fewer views cost: `layerdiffuse bench-alpha` says that. Each run has a
process of its own, whose peak of memory is measured: on the CPU its resident set, the libraries
included, as Linux counts it; on a GPU what PyTorch allocates there. Of the run is that without what
was there before.
Ways take turns. `--sides 2048 --ways original` runs one size and one arrangement.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

sys.path[:0] = [str(Path(__file__).resolve().parent)]

import attention_overhead  # noqa: E402
import forge_overhead  # noqa: E402

WAYS = ("original", "8", "adaptive", "4", "2", "1")
Run = dict[str, float]


def run(way: str, side: int, device: str, dtype: str, quick: bool, out: Path) -> Run | str:
    """Returns what `decoder_run.py` measures, or how it failed."""
    script = Path(__file__).resolve().parent / "decoder_run.py"
    command = [sys.executable, str(script), f"--way={way}", f"--side={side}", f"--out={out}"]
    command += [f"--device={device}", f"--dtype={dtype}", *(["--quick"] if quick else [])]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        return lines[-1][:60] if lines else f"status {done.returncode}"
    measured: Run = json.loads(done.stdout.splitlines()[-1])
    return measured


def difference(out: Path, reference: Path) -> tuple[float, float]:
    """Returns the largest difference and its 99.9th percentile, in 1/255."""
    apart = (torch.load(out) - torch.load(reference)).abs().flatten() * 255
    rank = max(1, round(0.999 * apart.numel()))
    return float(apart.max()), float(apart.kthvalue(rank).values)


def rows(ways: list[str], side: int, device: str, dtype: str, quick: bool, rounds: int) -> None:
    """Prints the rows of one size and type."""
    best: dict[str, Run] = {}
    failed: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        outs = {way: Path(folder) / way for way in ways}
        for _ in range(rounds):
            for way in ways:
                found = run(way, side, device, dtype, quick, outs[way])
                if isinstance(found, str):
                    failed[way] = found
                    continue
                before = best.get(way, found)
                best[way] = {key: min(found[key], before[key]) for key in found}
        for way in ways:
            if way not in best:
                print(f"| {side} | {dtype} | {way} | {failed.get(way)} | | | | | |")
                continue
            one, first = best[way], best.get("original", best[way])
            differs = ("", "")
            if way != "original" and "original" in best:
                differs = tuple(f"{x:.4f}" for x in difference(outs[way], outs["original"]))
            times = [f"{one[k]:.2f} s, {first[k] / one[k]:.2f} ×" for k in ("wall", "cpu")]
            peaks = [f"{one[k]:.0f} MiB, {one[k] / first[k]:.2f} ×" for k in ("peak", "run")]
            cells = [str(side), dtype, way, *times, *peaks, *differs]
            print("|", " | ".join(cells), "|", flush=True)


def vae_seconds(side: int, device: str, dtype: torch.dtype) -> float:
    """Returns how long a VAE of SD1.5's shape takes to decode an image."""
    from diffusers import AutoencoderKL

    widths = (128, 256, 512, 512)
    vae = AutoencoderKL(
        latent_channels=4,
        block_out_channels=widths,
        layers_per_block=2,
        down_block_types=("DownEncoderBlock2D",) * len(widths),
        up_block_types=("UpDecoderBlock2D",) * len(widths),
    ).to(device, dtype)
    latent = torch.randn(1, 4, side // 8, side // 8, device=device, dtype=dtype)
    with torch.no_grad():
        start = time.perf_counter()
        vae.decode(latent).sample.cpu()
        return time.perf_counter() - start


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--sides", type=int, nargs="+", default=[512, 1024, 2048])
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--decoder-only", action="store_true")
    args = parser.parse_args()
    if args.quick:  # It takes as many views as it likes.
        args.ways = [way for way in args.ways if way != "adaptive"]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtypes = ["float16", "bfloat16", "float32"] if device == "cuda" else ["float32"]
    print(f"PyTorch {torch.__version__}, {device}, {torch.get_num_threads()} threads\n")
    print(
        "| Side | Type | Views | Time | Of the processor | Peak | Of the run | Largest | 99.9 % |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for side in args.sides:
        for dtype in dtypes:
            rows(args.ways, side, device, dtype, args.quick, args.rounds)
    if args.decoder_only:
        return
    seconds = vae_seconds(512, device, getattr(torch, dtypes[0]))
    print(f"\nA VAE's decoder at 512², beside that: {seconds:.2f} s\n")
    attention_overhead.main()
    forge_overhead.main()


if __name__ == "__main__":
    main()
