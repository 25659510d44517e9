"""Samplers on a problem whose answer is known: data that are normal with standard deviation S.

The best denoiser is then x S^2 / (S^2 + sigma^2), and the path from sigma a to b is
x sqrt((S^2 + b^2) / (S^2 + a^2)).
"""

from __future__ import annotations

import math

import pytest
import torch

from client.embedded.diffusion.samplers import SAMPLERS
from client.embedded.diffusion.schedules import NoiseLevels, full_sigmas

SPREAD = 0.8
LEVELS = NoiseLevels.from_config({})
QUIET = [name for name in SAMPLERS if name != "euler_ancestral"]


def best(x: torch.Tensor, sigma: float) -> torch.Tensor:
    return x * SPREAD**2 / (SPREAD**2 + sigma**2)


def run(
    name: str, steps: int, *, x: torch.Tensor, seed: int = 0, on_step=lambda step, denoised: None
) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    sigmas = [float(sigma) for sigma in full_sigmas(LEVELS, "karras", steps)]
    noise = lambda: torch.randn(x.shape, generator=generator)  # noqa: E731
    return SAMPLERS[name](best, x, sigmas, on_step=on_step, step_noise=noise)


def error(name: str, steps: int) -> float:
    """Relative error at the smallest sigma before 0: the last step is always first order."""
    x = torch.full((1, 1, 1, 1), LEVELS.largest, dtype=torch.float64)
    sigmas = [float(sigma) for sigma in full_sigmas(LEVELS, "karras", steps)[:-1]]
    exact = LEVELS.largest * math.sqrt((SPREAD**2 + sigmas[-1] ** 2) / (SPREAD**2 + sigmas[0] ** 2))
    reached = SAMPLERS[name](best, x, sigmas, on_step=lambda step, denoised: None, step_noise=None)
    return abs(float(reached) / exact - 1.0)


@pytest.mark.parametrize("name", QUIET)
def test_a_sampler_comes_to_the_exact_answer_with_many_steps(name):
    assert error(name, 400) < 0.01


@pytest.mark.parametrize(
    ("name", "order"), [("euler", 1), ("ddim", 1), ("heun", 2), ("dpmpp_2m", 2)]
)
def test_twice_the_steps_shrink_the_error_as_the_order_says(name, order):
    assert error(name, 50) / error(name, 100) == pytest.approx(2**order, rel=0.3)


def test_ancestral_sampling_ends_with_the_spread_of_the_data():
    x = torch.randn(20_000, 1, 1, 1, generator=torch.Generator().manual_seed(1)) * LEVELS.largest
    assert float(run("euler_ancestral", 60, x=x).std()) == pytest.approx(SPREAD, rel=0.05)


def test_ancestral_sampling_follows_its_seed():
    x = torch.ones(2, 1, 2, 2)
    assert torch.equal(
        run("euler_ancestral", 5, x=x, seed=1), run("euler_ancestral", 5, x=x, seed=1)
    )
    assert not torch.equal(
        run("euler_ancestral", 5, x=x, seed=1), run("euler_ancestral", 5, x=x, seed=2)
    )


@pytest.mark.parametrize("name", QUIET)
def test_a_quiet_sampler_draws_no_noise(name):
    x = torch.ones(2, 1, 2, 2)
    assert torch.equal(run(name, 5, x=x, seed=1), run(name, 5, x=x, seed=2))


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_step_is_reported_once(name):
    seen = []
    run(
        name,
        7,
        x=torch.ones(1, 1, 1, 1),
        on_step=lambda step, denoised: seen.append((step, denoised.shape)),
    )
    assert seen == [(step, (1, 1, 1, 1)) for step in range(7)]


@pytest.mark.parametrize("name", SAMPLERS)
def test_what_a_report_raises_ends_the_run(name):
    def stop(step: int, denoised: torch.Tensor) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        run(name, 7, x=torch.ones(1, 1, 1, 1), on_step=stop)
