"""The diffusion model, classifier-free guidance and sampling: MODEL, GUIDER and NOISE links."""

from __future__ import annotations

import copy
import logging
import math
import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch

from ..errors import EmbeddedError
from .samplers import Sampler
from .schedules import NoiseLevels

log = logging.getLogger(__name__)

Conditioning = list[Any]  # [[tensor [B, tokens, width], {"pooled_output": ...}]], as in ComfyUI


class DiffusionModel:
    """MODEL: a UNet2DConditionModel that predicts noise ("epsilon") or velocity ("v_prediction").

    Latents outside are unscaled, like ComfyUI's LATENT; `latent_scale` is the VAE's scaling factor.
    """

    def __init__(
        self, unet: Any, levels: NoiseLevels, *, prediction: str, latent_scale: float
    ) -> None:
        self.unet = unet
        self.levels = levels
        self.latent_scale = latent_scale
        self._predicts_velocity = prediction == "v_prediction"
        parameter = next(unet.parameters())
        self.device, self._dtype = parameter.device, parameter.dtype
        self._most_rows = sys.maxsize  # that fit into the memory, as far as is known

    def with_unet(self, unet: Any) -> DiffusionModel:
        """The same with another UNet of this kind."""
        other = copy.copy(self)
        other.unet = unet
        return other

    def denoise(self, x: torch.Tensor, sigma: float, context: torch.Tensor) -> torch.Tensor:
        """The clean latent that the model sees in x [B, C, h, w] at noise level sigma.

        `context` is [B, tokens, width].
        """
        scale = 1.0 / math.sqrt(sigma**2 + 1.0)
        timestep = torch.tensor(self.levels.timestep(sigma), device=self.device)
        predicted = self._predict((x * scale).to(self._dtype), timestep, context).float()
        if self._predicts_velocity:
            return x * scale**2 - predicted * (sigma * scale)
        return x - predicted * sigma

    def _predict(
        self, given: torch.Tensor, timestep: torch.Tensor, context: torch.Tensor
    ) -> torch.Tensor:
        """What the UNet says of [B, C, h, w], half as many rows at once each time the memory does
        not hold them."""
        while True:
            rows = min(self._most_rows, len(given))
            try:
                if rows == len(given):
                    return self._call(given, timestep, context)
                pairs = zip(given.split(rows), context.split(rows), strict=True)
                return torch.cat([self._call(part, timestep, words) for part, words in pairs])
            except torch.OutOfMemoryError:
                if rows == 1:
                    raise
                self._most_rows = rows // 2
            torch.cuda.empty_cache()
            log.info("the GPU's memory is full: %d latents at once from now on", self._most_rows)

    def _call(
        self, given: torch.Tensor, timestep: torch.Tensor, context: torch.Tensor
    ) -> torch.Tensor:
        return self.unet(given, timestep, encoder_hidden_states=context, return_dict=False)[0]

    def context(self, conditioning: Conditioning, batch: int) -> torch.Tensor:
        """[batch, tokens, width] on the model's device; rows are repeated or cut off to fit."""
        rows = conditioning[0][0].to(self.device, self._dtype)
        if rows.shape[-1] != self.unet.config.cross_attention_dim:
            raise EmbeddedError(
                f"the conditioning is {rows.shape[-1]} wide but the model takes "
                f"{self.unet.config.cross_attention_dim}; "
                "take CLIP and MODEL from the same checkpoint"
            )
        return rows.repeat(-(-batch // rows.shape[0]), 1, 1)[:batch]

    def check_latent(self, latent: torch.Tensor) -> None:
        """Raises EmbeddedError if the model cannot work on latents of this shape."""
        if latent.ndim != 4 or latent.shape[1] != self.unet.config.in_channels:
            raise EmbeddedError(
                f"the latent has shape {tuple(latent.shape)}; "
                f"this model takes [B, {self.unet.config.in_channels}, h, w]"
            )


class Guider:
    """GUIDER: negative + cfg * (positive - negative), with both sides in one call of the model."""

    def __init__(
        self, model: DiffusionModel, positive: Conditioning, negative: Conditioning, cfg: float
    ) -> None:
        self.model = model
        self._positive, self._negative, self._cfg = positive, negative, cfg

    def sample(
        self,
        noise: torch.Tensor,
        latent: torch.Tensor,
        sampler: Sampler,
        sigmas: torch.Tensor,
        *,
        seed: int,
        on_step: Callable[[int], None],
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(the sampled latent, the last step's clean estimate), unscaled [B, C, h, w] on the CPU.

        `noise` and `latent` are [B, C, h, w]; `sigmas` is [steps + 1]; without a step the latent is
        returned as it is. `seed` is for samplers that add noise at each step; on_step(steps done)
        may raise to stop.
        """
        self.model.check_latent(latent)
        levels = [float(sigma) for sigma in sigmas]
        if len(levels) < 2:
            return latent, latent
        scale, device = self.model.latent_scale, self.model.device
        latent = latent.to(device).float() * scale
        x = _noised(noise.to(device).float(), latent, levels[0], self.model.levels.largest)
        last = x

        def step_done(step: int, denoised: torch.Tensor) -> None:
            nonlocal last
            last = denoised
            on_step(step + 1)

        x = sampler(
            self._denoiser(len(x)), x, levels, on_step=step_done, step_noise=_step_noise(x, seed)
        )
        return (x / scale).cpu(), (last / scale).cpu()

    def _denoiser(self, batch: int) -> Callable[[torch.Tensor, float], torch.Tensor]:
        positive = self.model.context(self._positive, batch)
        if math.isclose(self._cfg, 1.0):  # the negative side would be multiplied by 0
            return lambda x, sigma: self.model.denoise(x, sigma, positive)
        both = torch.cat(_same_length([self.model.context(self._negative, batch), positive]))

        def denoise(x: torch.Tensor, sigma: float) -> torch.Tensor:
            negative, positive = self.model.denoise(torch.cat([x, x]), sigma, both).chunk(2)
            return negative + self._cfg * (positive - negative)

        return denoise


class RandomNoise:
    """NOISE: standard normal noise from a seed, drawn on the CPU to be equal on every machine."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def generate_noise(self, latent: dict[str, Any]) -> torch.Tensor:
        """[B, C, h, w]. With latent["batch_index"], row i equals row batch_index[i] of a batch."""
        samples = latent["samples"]
        generator = torch.Generator().manual_seed(self.seed)
        rows = latent.get("batch_index")
        count = samples.shape[0] if rows is None else max(rows) + 1
        if rows is None:
            return torch.randn((count, *samples.shape[1:]), generator=generator)
        drawn = [torch.randn((1, *samples.shape[1:]), generator=generator) for _ in range(count)]
        return torch.cat([drawn[row] for row in rows])


def _noised(
    noise: torch.Tensor, latent: torch.Tensor, sigma: float, largest: float
) -> torch.Tensor:
    """The start. At the model's largest sigma the variance is 1 + sigma^2, as in training."""
    at_most_noise = sigma > largest or math.isclose(sigma, largest, rel_tol=1e-5)
    return latent + noise * (math.sqrt(1.0 + sigma**2) if at_most_noise else sigma)


def _step_noise(x: torch.Tensor, seed: int) -> Callable[[], torch.Tensor]:
    """As in ComfyUI: on the CPU the seed is one higher, so that the starting noise differs."""
    generator = torch.Generator(x.device).manual_seed(
        (seed + 1) % 2**64 if x.device.type == "cpu" else seed
    )
    return lambda: torch.randn(x.shape, generator=generator, device=x.device)


def _same_length(contexts: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Repeats tokens up to the least common multiple of the lengths; attention stays the same."""
    length = math.lcm(*(context.shape[1] for context in contexts))
    return [context.repeat(1, length // context.shape[1], 1) for context in contexts]
