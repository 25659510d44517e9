"""The UNet and its training: epsilon prediction under Stable Diffusion 1.5's noise schedule."""

from __future__ import annotations

import copy
import logging
import random
import time
from collections.abc import Callable

import torch
from diffusers import UNet2DConditionModel
from torch import nn

from .schedule import warmup_cosine
from .text_encoder import WIDTH

logger = logging.getLogger(__name__)

SCHEDULER_CONFIG = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "timestep_spacing": "linspace",  # ComfyUI's `normal` scheduler
}
_MIN_SNR_GAMMA = 5.0


def build_unet() -> UNet2DConditionModel:
    """Cross-attention only at 4x4: at 8x8 it takes half of the time and helps one object little."""
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        block_out_channels=(32, 80),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
        norm_num_groups=8,
    )


def alphas_cumprod() -> torch.Tensor:
    """Remaining share of signal variance at each of the 1000 training timesteps, float32 [1000]."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    return torch.cumprod(1.0 - betas, 0).float()


def train_unet(
    unet: UNet2DConditionModel,
    latents: torch.Tensor,
    contexts: Callable[[list[int], random.Random], torch.Tensor],
    *,
    steps: int,
    schedule_steps: int,
    batch: int,
    seed: int,
    learning_rate: float = 1.5e-3,
    on_checkpoint: Callable[[UNet2DConditionModel], None] | None = None,
) -> UNet2DConditionModel:
    """Train on scaled latents [N,4,8,8]; returns a moving average of the weights.

    The average samples better than the weights themselves. `contexts(rows, rng)` draws captions for
    these rows of `latents` and encodes them, float32 [B,40,64]. `on_checkpoint` is called with the
    average after each third of the steps, so that a long run that is stopped leaves something.
    """
    rng, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    kept = alphas_cumprod()
    # Min-SNR weighting: nearly clean latents are easy and should not dominate the loss.
    weight = (_MIN_SNR_GAMMA / (kept / (1.0 - kept))).clamp(max=1.0)
    unet.to(memory_format=torch.channels_last).train()
    average = copy.deepcopy(unet).eval().requires_grad_(False)
    optimizer = torch.optim.AdamW(
        unet.parameters(), lr=learning_rate, weight_decay=0.01, fused=True
    )
    schedule = warmup_cosine(optimizer, steps=schedule_steps)
    started, smooth = time.monotonic(), 1.0
    for step in range(steps):
        rows = torch.randint(len(latents), (batch,), generator=generator)
        timesteps = torch.randint(1000, (batch,), generator=generator)
        noise = torch.randn((batch, *latents.shape[1:]), generator=generator)
        share = kept[timesteps, None, None, None]
        noisy = share.sqrt() * latents[rows] + (1.0 - share).sqrt() * noise
        predicted = unet(noisy, timesteps, contexts(rows.tolist(), rng)).sample
        loss = ((predicted - noise).square().mean((1, 2, 3)) * weight[timesteps]).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        _follow(average, unet, decay=min(0.999, (step + 1) / (step + 20)))
        smooth = 0.99 * smooth + 0.01 * loss.item() if step else loss.item()
        if (step + 1) % 200 == 0 or step + 1 == steps:
            seconds = time.monotonic() - started
            logger.info("unet: step %d of %d, loss %.4f, %.0f s", step + 1, steps, smooth, seconds)
        if on_checkpoint and (step + 1) % max(1, steps // 3) == 0:
            on_checkpoint(average)
    return average


@torch.no_grad()
def _follow(average: nn.Module, model: nn.Module, *, decay: float) -> None:
    torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1.0 - decay)
