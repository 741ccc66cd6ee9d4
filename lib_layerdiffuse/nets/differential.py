"""Differential Diffusion: a map says of each part of an image how much it may change.

Source: Levin & Fried, "Differential Diffusion: Giving Each Pixel Its Strength", arXiv:2306.00950.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def timestep(sigma: float, sigmas: Tensor) -> float:
    """Returns where a sigma stands among a model's own, from 0 for the smallest.

    Between two of them it is interpolated by the logarithm, as samplers do.

    Args:
        sigma: What a step begins with.
        sigmas: The model's, one for each of its timesteps, rising.
    """
    logs = sigmas.double().log().cpu()
    log = math.log(max(sigma, 1e-12))
    above = int(torch.searchsorted(logs, log))
    if above == 0:
        return 0.0
    if above == len(logs):
        return float(len(logs) - 1)
    low, high = logs[above - 1 : above + 1].tolist()
    return above - 1 + (log - low) / (high - low)


class DifferentialRun:
    """One sampling run under a change map.

    A latent pixel is free while the share of the run's timesteps that is left is at most its value
    in the map; before, it is held to the original. So 1 is free from the first step on, 0 never.

    The host may call the network several times for a step; each call counts by its own sigma. The
    authors' program also keeps what the step before the first free one made; here a pixel is the
    original until then, bit for bit.

    Args:
        change: The map at the latent's size, `h w` or with leading axes, in [0, 1].
        sigmas: The model's own sigmas, rising.
    """

    def __init__(self, change: Tensor, sigmas: Tensor) -> None:
        self.change, self._sigmas = change, sigmas
        self._start: float | None = None
        self._freed = torch.zeros_like(change, dtype=torch.bool)

    def threshold(self, sigma: float) -> float:
        """Returns the value that a pixel needs to be free at a sigma; the first call's is 1."""
        now = timestep(sigma, self._sigmas)
        if self._start is None:
            self._start = now
        return now / self._start if now < self._start else 1.0

    def hold(self, denoised: Tensor, original: Tensor, sigma: float) -> Tensor:
        """Returns a step's denoised latent with the original wherever that is held.

        A sampler that is told the original there goes on from the noise that it began with, so the
        pixel is the original with the noise of each step.

        Args:
            denoised: `b 4 h w`, what the network makes of the noisy latent.
            original: `b 4 h w`, what the run began with, before noise.
            sigma: Of the noisy latent.
        """
        free = (self.change > 0) & (self.change >= self.threshold(sigma))
        self._freed |= free
        return torch.where(free, denoised, original)

    def finish(self, latent: Tensor, original: Tensor) -> Tensor:
        """Returns the run's latent `b 4 h w` with the original wherever it was never free."""
        return torch.where(self._freed, latent, original)
