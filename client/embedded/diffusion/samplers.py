"""Samplers: from noise to a latent, each a published algorithm in ComfyUI's parametrisation.

A sampler is called as sampler(denoise, x, sigmas, *, on_step, step_noise):
- denoise(x, sigma) -> the model's estimate of the clean latent, [B, C, h, w];
- x: [B, C, h, w] at noise level sigmas[0]; sigmas: [steps + 1] numbers, falling;
- on_step(step, denoised) after every model step, counted from 0; what it raises ends the run;
- step_noise() -> fresh standard normal noise like x, for samplers that add noise at each step.

Samplers that add no noise treat each row alone, so that a row does not depend on its batch.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import torch

Denoise = Callable[[torch.Tensor, float], torch.Tensor]
OnStep = Callable[[int, torch.Tensor], None]
StepNoise = Callable[[], torch.Tensor]
Sampler = Callable[..., torch.Tensor]


def euler(
    denoise: Denoise,
    x: torch.Tensor,
    sigmas: Sequence[float],
    *,
    on_step: OnStep,
    step_noise: StepNoise,
) -> torch.Tensor:
    """Euler's method on dx/dsigma = (x - denoised) / sigma (Karras et al. 2022).

    DDIM is the same with these sigmas.
    """
    for step, (sigma, following) in enumerate(_steps(sigmas)):
        denoised = denoise(x, sigma)
        on_step(step, denoised)
        x = x + (x - denoised) * ((following - sigma) / sigma)
    return x


def heun(
    denoise: Denoise,
    x: torch.Tensor,
    sigmas: Sequence[float],
    *,
    on_step: OnStep,
    step_noise: StepNoise,
) -> torch.Tensor:
    """Heun's second-order method (Karras et al. 2022, algorithm 1).

    Two model calls per step, one in the last.
    """
    for step, (sigma, following) in enumerate(_steps(sigmas)):
        denoised = denoise(x, sigma)
        on_step(step, denoised)
        slope = (x - denoised) / sigma
        ahead = x + slope * (following - sigma)
        if following > 0.0:
            slope = (slope + (ahead - denoise(ahead, following)) / following) / 2.0
            ahead = x + slope * (following - sigma)
        x = ahead
    return x


def dpmpp_2m(
    denoise: Denoise,
    x: torch.Tensor,
    sigmas: Sequence[float],
    *,
    on_step: OnStep,
    step_noise: StepNoise,
) -> torch.Tensor:
    """DPM-Solver++(2M), a multistep method in log(sigma) (Lu et al. 2022).

    The first and the last step are first order.
    """
    before: torch.Tensor | None = None
    previous = 0.0
    for step, (sigma, following) in enumerate(_steps(sigmas)):
        denoised = denoise(x, sigma)
        on_step(step, denoised)
        ratio = following / sigma  # exp(-h) for the step h in -log(sigma)
        target = denoised
        if before is not None and following > 0.0:
            weight = (math.log(sigma) - math.log(following)) / (
                2.0 * (math.log(previous) - math.log(sigma))
            )
            target = (1.0 + weight) * denoised - weight * before
        x = ratio * x + (1.0 - ratio) * target
        before, previous = denoised, sigma
    return x


def euler_ancestral(
    denoise: Denoise,
    x: torch.Tensor,
    sigmas: Sequence[float],
    *,
    on_step: OnStep,
    step_noise: StepNoise,
) -> torch.Tensor:
    """Euler to a lower sigma than requested, then noise back up. Rows depend on the batch shape."""
    for step, (sigma, following) in enumerate(_steps(sigmas)):
        denoised = denoise(x, sigma)
        on_step(step, denoised)
        up = min(following, math.sqrt(following**2 * (sigma**2 - following**2) / sigma**2))
        down = math.sqrt(following**2 - up**2)
        x = x + (x - denoised) * ((down - sigma) / sigma)
        if up > 0.0:
            x = x + step_noise() * up
    return x


def _steps(sigmas: Sequence[float]) -> list[tuple[float, float]]:
    return list(itertools.pairwise(sigmas))


SAMPLERS: dict[str, Sampler] = {
    "euler": euler,
    "euler_ancestral": euler_ancestral,
    "heun": heun,
    "dpmpp_2m": dpmpp_2m,
    "ddim": euler,
}
