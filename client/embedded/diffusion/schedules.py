"""Noise levels as in ComfyUI: sigma = sqrt((1 - a) / a), a being a model's cumulative product.

A schedule is [steps + 1] sigmas, falling, ending in 0. Names and values are those of ComfyUI's
schedulers (comfy/samplers.py), which took `karras` from Karras et al. 2022 (equation 5).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from ..errors import EmbeddedError
from ..limits import MOST_LEVELS


class NoiseLevels:
    """A model's training sigmas, one per timestep, rising: [timesteps], float32 on the CPU."""

    def __init__(self, betas: torch.Tensor) -> None:
        kept = torch.cumprod(1.0 - betas.double(), dim=0)
        self.sigmas = ((1.0 - kept) / kept).sqrt().float()
        self.log_sigmas = self.sigmas.log()

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> NoiseLevels:
        """From a diffusers scheduler_config.json.

        Raises:
            EmbeddedError: a noise schedule that Stable Diffusion 1 and 2 do not have.
        """
        start, end = config.get("beta_start", 0.00085), config.get("beta_end", 0.012)
        count, kind = (
            config.get("num_train_timesteps", 1000),
            config.get("beta_schedule", "scaled_linear"),
        )
        if config.get("trained_betas") is not None:
            return cls(torch.tensor(config["trained_betas"]))
        if config.get("rescale_betas_zero_snr") or kind not in ("scaled_linear", "linear"):
            raise EmbeddedError(
                f"the checkpoint's noise schedule '{kind}' is not supported; "
                "use a Stable Diffusion 1 model"
            )
        if kind == "linear":
            return cls(torch.linspace(start, end, count, dtype=torch.float64))
        return cls(torch.linspace(start**0.5, end**0.5, count, dtype=torch.float64) ** 2)

    def timestep(self, sigma: float) -> int:
        """The training timestep whose noise level is nearest, by logarithm."""
        return int((self.log_sigmas - math.log(sigma)).abs().argmin())

    def sigma(self, timestep: torch.Tensor) -> torch.Tensor:
        """Sigmas at timesteps, which may lie between training ones; interpolated by logarithm."""
        timestep = timestep.float().clamp(0, len(self.sigmas) - 1)
        low, high, share = timestep.floor().long(), timestep.ceil().long(), timestep.frac()
        return ((1.0 - share) * self.log_sigmas[low] + share * self.log_sigmas[high]).exp()

    @property
    def smallest(self) -> float:
        """The sigma of the first timestep."""
        return float(self.sigmas[0])

    @property
    def largest(self) -> float:
        """The sigma of the last timestep: practically pure noise."""
        return float(self.sigmas[-1])


def normal(levels: NoiseLevels, steps: int) -> torch.Tensor:
    """Timesteps evenly spaced from the last to the first."""
    return levels.sigma(torch.linspace(len(levels.sigmas) - 1, 0, steps))


def sgm_uniform(levels: NoiseLevels, steps: int) -> torch.Tensor:
    """As `normal` with one more step, whose last sigma is left out."""
    return normal(levels, steps + 1)[:-1]


def simple(levels: NoiseLevels, steps: int) -> torch.Tensor:
    """Every (timesteps / steps)-th level of training, counted from the noisiest."""
    stride = len(levels.sigmas) / steps
    return levels.sigmas[[-1 - int(step * stride) for step in range(steps)]]


def ddim_uniform(levels: NoiseLevels, steps: int) -> torch.Tensor:
    """Every (timesteps // steps)-th training level, from the second cleanest; may add a step."""
    stride = max(len(levels.sigmas) // steps, 1)
    return levels.sigmas[1::stride].flip(0)


def karras(levels: NoiseLevels, steps: int, *, rho: float = 7.0) -> torch.Tensor:
    """Evenly spaced in sigma ** (1 / rho)."""
    share = torch.linspace(0, 1, steps)
    low, high = levels.smallest ** (1 / rho), levels.largest ** (1 / rho)
    return (high + share * (low - high)) ** rho


def exponential(levels: NoiseLevels, steps: int) -> torch.Tensor:
    """Evenly spaced in log(sigma)."""
    return torch.linspace(math.log(levels.largest), math.log(levels.smallest), steps).exp()


SCHEDULES: dict[str, Callable[[NoiseLevels, int], torch.Tensor]] = {
    "simple": simple,
    "sgm_uniform": sgm_uniform,
    "karras": karras,
    "exponential": exponential,
    "ddim_uniform": ddim_uniform,
    "normal": normal,
}


def full_sigmas(levels: NoiseLevels, schedule: str, steps: int) -> torch.Tensor:
    """[steps + 1] sigmas from the noisiest to 0; `ddim_uniform` may have more."""
    return torch.cat([SCHEDULES[schedule](levels, steps), torch.zeros(1)])


def make_sigmas(levels: NoiseLevels, schedule: str, steps: int, denoise: float) -> torch.Tensor:
    """The last [steps + 1] sigmas of a schedule of steps / denoise; empty when `denoise` is 0.

    Raises EmbeddedError for a schedule of more than MOST_LEVELS steps.
    """
    if denoise <= 0.0:
        return torch.zeros(0)
    if steps / denoise > MOST_LEVELS:
        raise EmbeddedError(
            f"{steps} steps with denoise {denoise} are a schedule of {steps / denoise:,.0f}; "
            f"this engine takes {MOST_LEVELS:,}; lower the steps or raise denoise"
        )
    return full_sigmas(levels, schedule, int(steps / denoise))[-(steps + 1) :]
