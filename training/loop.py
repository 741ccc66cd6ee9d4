"""The training loop that every program here shares: schedule, average, checkpoint, resume.

Under `torchrun` each process draws batches of its own, and the gradients are averaged.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim import AdamW

WARM_UP = 0.03
"""Part of the run in which the learning rate rises."""


@dataclass(frozen=True)
class Plan:
    """How long and how fast to train.

    Attributes:
        minutes: Time to train, over all resumed runs. The learning rate falls to zero at its end.
        rate: Highest learning rate of AdamW.
        average: Decay of the moving average of the weights, which is what is kept at the end.
        save_every: Minutes between checkpoints.
    """

    minutes: float
    rate: float = 1e-3
    average: float = 0.998
    save_every: float = 2.0


class Trainer:
    """Trains one module's parameters that require gradients.

    Args:
        net: The module; at the end it holds the averaged weights.
        plan: How long and how fast.
        checkpoint: File of the run's state. Where it exists the run goes on from it.
    """

    def __init__(self, net: nn.Module, plan: Plan, checkpoint: Path) -> None:
        self.net, self.plan, self.checkpoint = net, plan, checkpoint
        self.parameters = {n: p for n, p in net.named_parameters() if p.requires_grad}
        self.optimizer = AdamW(self.parameters.values(), lr=plan.rate, weight_decay=1e-3)
        self.average = {n: p.detach().clone() for n, p in self.parameters.items()}
        self.steps, self.elapsed = 0, 0.0
        if checkpoint.exists():
            self._resume()

    @property
    def progress(self) -> float:
        """How much of the time is over, in [0, 1]."""
        return min(1.0, self.elapsed / (60 * self.plan.minutes))

    def run(self, loss: Callable[[], Tensor], sheet: Callable[[str], None] | None = None) -> None:
        """Takes steps until the time is over.

        Args:
            loss: Draws a batch and returns its loss.
            sheet: Called at each checkpoint, with the averaged weights in place, to draw samples.
        """
        saved, mean = self.elapsed, None
        while self.progress < 1:
            start = time.monotonic()
            value = self._step(loss)
            mean = value if mean is None else 0.98 * mean + 0.02 * value
            self.elapsed = _of_first(self.elapsed + time.monotonic() - start)
            due = self.elapsed - saved > 60 * self.plan.save_every or self.progress == 1
            if due and rank() == 0:
                saved = self.elapsed
                self._report(mean)
                self._save()
                if sheet is not None:
                    self.swap()
                    sheet(f"{self.steps:06d}")
                    self.swap()
        self.swap()

    def swap(self) -> None:
        """Exchanges the weights and their moving average."""
        for name, parameter in self.parameters.items():
            kept = parameter.detach().clone()
            parameter.data.copy_(self.average[name])
            self.average[name] = kept

    def _step(self, loss: Callable[[], Tensor]) -> float:
        rate = self.plan.rate * _schedule(self.progress)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        value = loss()
        self.optimizer.zero_grad(set_to_none=True)
        value.backward()
        _average(self.parameters.values())
        nn.utils.clip_grad_norm_(self.parameters.values(), 1.0)
        self.optimizer.step()
        self.steps += 1
        decay = min(self.plan.average, (1 + self.steps) / (10 + self.steps))
        for name, parameter in self.parameters.items():
            self.average[name].lerp_(parameter.detach(), 1 - decay)
        return float(value.detach())

    def _report(self, mean: float) -> None:
        name = self.checkpoint.stem
        text = f"{name}: {self.progress:4.0%}, step {self.steps}, loss {mean:.5f}"
        print(text, f"{self.steps / self.elapsed:.2f} steps/s", file=sys.stderr, flush=True)

    def _save(self) -> None:
        state = {
            "weights": {n: p.detach() for n, p in self.parameters.items()},
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
            "steps": self.steps,
            "elapsed": self.elapsed,
        }
        self.checkpoint.parent.mkdir(parents=True, exist_ok=True)
        part = self.checkpoint.with_suffix(".part")
        torch.save(state, part)
        part.replace(self.checkpoint)

    def _resume(self) -> None:
        state = torch.load(self.checkpoint, weights_only=True)
        for name, parameter in self.parameters.items():
            parameter.data.copy_(state["weights"][name])
        self.average = state["average"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.steps, self.elapsed = state["steps"], state["elapsed"]


def _schedule(progress: float) -> float:
    """Returns the learning rate's factor: a linear rise, then half a cosine down to zero."""
    if progress < WARM_UP:
        return 0.02 + progress / WARM_UP
    left = (progress - WARM_UP) / (1 - WARM_UP)
    return float(0.5 * (1 + torch.cos(torch.tensor(torch.pi * left))))


def arguments(about: str | None, minutes: float | None = None) -> argparse.ArgumentParser:
    """Returns a program's parser with what all have: `--data`, `--threads` and, to train, time.

    Args:
        about: What the program does.
        minutes: How long it trains if that is not said; None for a program that does not.
    """
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--data", type=Path, default=Path("out/training"))
    parser.add_argument("--threads", type=int, default=1)
    if minutes is not None:
        parser.add_argument("--minutes", type=float, default=minutes)
    return parser


def set_up(seed: int, threads: int) -> None:
    """Sets the seed and the number of CPU threads, and joins the other processes of `torchrun`."""
    if "WORLD_SIZE" in os.environ:
        dist.init_process_group("gloo")
    torch.manual_seed(seed + rank())
    torch.set_num_threads(threads)


def rank() -> int:
    """Returns this process's number, 0 for the first or only one."""
    return dist.get_rank() if dist.is_initialized() else 0


def same_everywhere(net: nn.Module) -> None:
    """Gives every process the first one's weights."""
    if dist.is_initialized():
        for parameter in net.parameters():
            dist.broadcast(parameter.data, 0)


def _average(parameters: Iterable[nn.Parameter]) -> None:
    if dist.is_initialized():
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat)
        flat /= dist.get_world_size()
        for gradient, part in zip(
            gradients, flat.split([g.numel() for g in gradients]), strict=True
        ):
            gradient.copy_(part.view_as(gradient))


def _of_first(value: float) -> float:
    if not dist.is_initialized():
        return value
    box = torch.tensor(value, dtype=torch.float64)
    dist.broadcast(box, 0)
    return float(box)


def freeze(nets: Iterable[nn.Module]) -> None:
    """Takes the networks out of training."""
    for net in nets:
        net.requires_grad_(False).eval()
