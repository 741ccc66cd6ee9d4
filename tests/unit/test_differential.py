"""Differential Diffusion against the algorithm in its latents, and its schedule for any sampler."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lib_layerdiffuse.nets.differential import DifferentialRun, timestep

BETAS = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
ALPHAS = torch.cumprod(1 - BETAS, 0)
SIGMAS = ((1 - ALPHAS) / ALPHAS).sqrt().float()
"""Stable Diffusion's own sigmas."""


def network(x, sigma):
    """Returns a denoised latent in which every pixel knows of its neighbours."""
    scaled = x / math.sqrt(sigma**2 + 1)
    return torch.tanh(scaled + scaled.roll(1, 2) / 2 - scaled.roll(1, 3).flip(1) / 3)


def inputs(seed=0):
    generator = torch.Generator().manual_seed(seed)
    init, noise = (torch.randn(2, 4, 6, 8, generator=generator, dtype=torch.float64) for _ in "ab")
    change = torch.linspace(0, 1, 48, dtype=torch.float64).view(6, 8)
    return init, noise, change


def reference(init, noise, change, timesteps):
    """Levin & Fried's algorithm with a DDIM step, a pixel's first own step being its first free.

    Args:
        timesteps: Falling.
    """
    signal = [*ALPHAS[timesteps], torch.tensor(1.0)]
    noised = [init * s.sqrt() + noise * (1 - s).sqrt() for s in signal]
    x = noised[0]
    for i, t in enumerate(timesteps):
        here, following = signal[i], signal[i + 1]
        free = (change > 0) & (change >= t / timesteps[0])
        assert torch.allclose(x[..., ~free], noised[i][..., ~free])
        denoised = network(x / here.sqrt(), float(((1 - here) / here).sqrt()))
        eps = (x - here.sqrt() * denoised) / (1 - here).sqrt()
        x = following.sqrt() * denoised + (1 - following).sqrt() * eps
        x = torch.where(free, x, noised[i + 1])
    return x


def euler(init, noise, change, sigmas):
    """A WebUI's sampling with Euler's steps, where only the denoised latent is altered."""
    run = DifferentialRun(change, SIGMAS)
    x = init + noise * sigmas[0]
    for sigma, following in zip(sigmas, [*sigmas[1:], 0.0], strict=True):
        denoised = run.hold(network(x, sigma), init, sigma)
        x = x + (x - denoised) / sigma * (following - sigma)
    return run.finish(x, init)


@pytest.mark.parametrize("steps", [[999, 749, 499, 249], [601, 401, 201, 1], [500, 3], [7]])
def test_held_pixels_are_the_noised_original_and_free_ones_are_sampled(steps):
    init, noise, change = inputs()
    timesteps = torch.tensor(steps)
    wanted = reference(init, noise, change, timesteps)
    sigmas = [float(SIGMAS[t]) for t in timesteps]
    torch.testing.assert_close(euler(init, noise, change, sigmas), wanted, rtol=1e-5, atol=1e-6)


def test_held_pixels_come_back_bit_for_bit():
    init, noise, change = inputs()
    made = euler(init, noise, change, [float(SIGMAS[t]) for t in (800, 400, 100)])
    held = change < 100 / 800
    assert held.sum() > 5
    assert torch.equal(made[..., held], init[..., held])
    assert (made[..., ~held] != init[..., ~held]).all()


def test_a_map_of_ones_changes_nothing_and_one_of_zeros_everything():
    init, noise, change = inputs()
    sigmas = [float(SIGMAS[t]) for t in (800, 400, 0)]
    x = init + noise * sigmas[0]
    for sigma, following in zip(sigmas, [*sigmas[1:], 0.0], strict=True):
        x = x + (x - network(x, sigma)) / sigma * (following - sigma)
    torch.testing.assert_close(euler(init, noise, torch.ones_like(change), sigmas), x)
    assert torch.equal(euler(init, noise, torch.zeros_like(change), sigmas), init)


@given(st.floats(0, 999))
def test_a_timestep_is_found_by_its_sigma(t):
    low = int(t)
    logs = SIGMAS.double().log()
    sigma = math.exp(float(logs[low] + (t - low) * (logs[min(low + 1, 999)] - logs[low])))
    assert abs(timestep(sigma, SIGMAS) - t) < 1e-6


@pytest.mark.parametrize(("sigma", "wanted"), [(0.0, 0), (1e-9, 0), (1e9, 999)])
def test_sigmas_beyond_the_models_own(sigma, wanted):
    assert timestep(sigma, SIGMAS) == wanted


def test_a_models_own_sigmas_are_its_timesteps_to_the_last_bit():
    assert [timestep(float(sigma), SIGMAS) for sigma in SIGMAS] == list(range(len(SIGMAS)))


@given(st.floats(0, 200))
def test_it_is_interpolated_as_by_numpy(sigma):
    logs = SIGMAS.double().log().numpy()
    wanted = np.interp(math.log(max(sigma, 1e-12)), logs, np.arange(len(logs)))
    assert timestep(sigma, SIGMAS) == pytest.approx(wanted, abs=1e-9)


def karras(n, low=0.0292, high=14.6146):
    ramp = np.linspace(0, 1, n)
    return ((high ** (1 / 7)) + ramp * (low ** (1 / 7) - high ** (1 / 7))) ** 7


def exponential(n, low=0.0292, high=14.6146):
    return np.exp(np.linspace(np.log(high), np.log(low), n))


def uniform(n):
    return [float(SIGMAS[round(t)]) for t in np.linspace(999, 0, n)]


@pytest.mark.parametrize("schedule", [karras, exponential, uniform])
@pytest.mark.parametrize("skipped", [0, 3])
def test_thresholds_fall_from_1_with_any_schedule(schedule, skipped):
    sigmas = [float(s) for s in schedule(12)[skipped:]]
    run = DifferentialRun(torch.rand(4, 4), SIGMAS)
    found = [run.threshold(sigma) for sigma in sigmas]
    table = SIGMAS.double().log().numpy()
    steps = np.interp(np.log(sigmas), table, np.arange(1000))
    np.testing.assert_allclose(found, steps / steps[0], atol=1e-9)
    assert found[0] == 1
    assert (np.diff(found) < 0).all()


def test_samplers_that_go_back_up_hold_again():
    run = DifferentialRun(torch.full((1, 1), 0.5), SIGMAS)
    denoised, original = torch.ones(1, 4, 1, 1), torch.zeros(1, 4, 1, 1)
    found = [
        float(run.hold(denoised, original, float(SIGMAS[t])).mean()) for t in (800, 401, 400, 600)
    ]
    assert found == [0, 0, 1, 0]
    assert torch.equal(run.finish(denoised, original), denoised)
    assert run.threshold(float(SIGMAS[900])) == 1


def test_a_churned_first_step_begins_at_1():
    run = DifferentialRun(torch.ones(2, 2), SIGMAS)
    assert run.threshold(20.0) == 1
    assert run.hold(torch.ones(1, 4, 2, 2), torch.zeros(1, 4, 2, 2), 14.0).min() == 1
