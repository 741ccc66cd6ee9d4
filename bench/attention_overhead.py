"""The 32 attention modules of SD1.5 alone, at 256², with classifier-free guidance: no host needed.

Plain against shared against the naive arrangement, by the smallest of several runs each.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)]

from forge_steps import NaiveLayer, attend  # noqa: E402

from lib_layerdiffuse.nets.attention_sharing import BaseAttention, SharedAttention  # noqa: E402

LEVELS = ((320, 32, 5), (640, 16, 5), (1280, 8, 5), (1280, 4, 1))  # channels, side, blocks
TEXT, RANK, HEADS, REPEATS = 768, 256, 8, 6
GOALS = {1: "1/3", 2: "2/3", 3: "2/3"}


def random_layer(channels: int, context: int, frames: int) -> dict[str, Tensor]:
    """Returns one layer's tensors with a released file's names and shapes."""
    tensors = {}
    for frame in range(frames):
        for name, wide in (("q", channels), ("k", context), ("v", context), ("out", channels)):
            key = f"to_{name}_lora.{frame}"
            tensors[f"{key}.down.weight"] = torch.randn(RANK, wide) * 0.02
            tensors[f"{key}.up.weight"] = torch.randn(channels, RANK) * 0.02
    for name in "iqkvo":
        tensors[f"temporal_{name}.weight"] = torch.randn(channels, channels) * 0.02
        tensors[f"temporal_{name}.bias"] = torch.zeros(channels)
    return tensors | {
        "temporal_n.weight": torch.ones(channels),
        "temporal_n.bias": torch.zeros(channels),
    }


def best(runs: list[Callable[[], Any]]) -> list[float]:
    """Returns each function's smallest time, with the functions taking turns."""
    times = [float("inf")] * len(runs)
    for _ in range(REPEATS):
        for i, run in enumerate(runs):
            start = time.perf_counter()
            run()
            times[i] = min(times[i], time.perf_counter() - start)
    return times


def measure(channels: int, side: int, context: int | None, frames: int) -> list[float]:
    """Returns the seconds of one attention module: plain, shared, naive."""
    wide = context or channels
    tensors = random_layer(channels, wide, frames)
    q, out = nn.Linear(channels, channels, bias=False), nn.Linear(channels, channels)
    k, v = (nn.Linear(wide, channels, bias=False) for _ in range(2))
    module = SimpleNamespace(heads=HEADS, to_q=q, to_k=k, to_v=v, to_out=[out])
    base = BaseAttention(HEADS, q, k, v, out)
    shared = SharedAttention(tensors, frames, 1.0)
    naive = NaiveLayer({f"hookers.layers.0.{name}": t for name, t in tensors.items()}, 0, frames)
    x = torch.randn(2 * frames, side * side, channels)
    text = None if context is None else torch.randn(2 * frames, 77, context)
    source = x if text is None else text

    def plain() -> Tensor:
        return out(attend(q(x), k(source), v(source), HEADS))

    return best([plain, lambda: shared(base, x, text), lambda: naive(module, x, text, None)])


@torch.inference_mode()
def main() -> None:
    """Prints its part of the table."""
    for frames, goal in GOALS.items():
        plain, ours, naive = (
            sum(times)
            for times in zip(
                *(
                    [blocks * t for t in measure(channels, side, context, frames)]
                    for channels, side, blocks in LEVELS
                    for context in (None, TEXT)
                ),
                strict=True,
            )
        )
        ratio = (ours - plain) / (naive - plain)
        print(
            f"{frames} frame(s): plain {plain * 1e3:.0f} ms, ours {ours * 1e3:.0f} ms, "
            f"naive {naive * 1e3:.0f} ms; overhead, ours : naive {ratio:.2f} (goal ≤ {goal})"
        )
