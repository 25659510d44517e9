"""Sample the checkpoint with the workflow's defaults, for measuring it.

That is: euler, ComfyUI's `normal` scheduler and classifier-free guidance. This is deliberately
separate from the engine, so that each can be checked against the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from .diffusion import alphas_cumprod
from .text_encoder import tokenize

LATENT_SHAPE = (4, 8, 8)


@dataclass(frozen=True)
class Checkpoint:
    """The parts of a checkpoint folder, in float32 and ready to sample."""

    tokenizer: CLIPTokenizer
    text_encoder: CLIPTextModel
    unet: UNet2DConditionModel
    vae: AutoencoderKL


def load_checkpoint(folder: Path) -> Checkpoint:
    """Load a diffusers folder from safetensors only."""
    options = {"use_safetensors": True, "local_files_only": True}
    parts = Checkpoint(
        tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True),
        text_encoder=CLIPTextModel.from_pretrained(folder / "text_encoder", **options).float(),
        unet=UNet2DConditionModel.from_pretrained(folder / "unet", **options).float().eval(),
        vae=AutoencoderKL.from_pretrained(folder / "vae", **options).float().eval(),
    )
    parts.text_encoder.eval()
    for model in (parts.unet, parts.vae):
        model.to(memory_format=torch.channels_last)
    return parts


@torch.no_grad()
def sample(
    checkpoint: Checkpoint,
    prompts: Sequence[str],
    seeds: Sequence[int],
    *,
    negative_prompt: str = "",
    steps: int = 20,
    cfg: float = 3.0,
    batch: int = 16,
) -> np.ndarray:
    """uint8 [N,64,64,3]. Image i depends only on prompt i and seed i, not on its batch."""
    parts = []
    for at in range(0, len(prompts), batch):
        texts = list(prompts[at : at + batch])
        tokens = tokenize(checkpoint.tokenizer, [negative_prompt] * len(texts) + texts)
        context = checkpoint.text_encoder(tokens).last_hidden_state
        noise = torch.cat([_noise(seed) for seed in seeds[at : at + batch]])
        latents = _euler(checkpoint.unet, noise, context, steps=steps, cfg=cfg)
        parts.append(checkpoint.vae.decode(latents / checkpoint.vae.config.scaling_factor).sample)
    pixels = torch.cat(parts).add(1.0).mul(127.5).round().clamp(0, 255)
    return pixels.permute(0, 2, 3, 1).to(torch.uint8).numpy()


def normal_schedule(steps: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Timesteps [steps], evenly spaced from 999 to 0, and their sigmas [steps + 1], ending in 0."""
    kept = alphas_cumprod()
    log_sigmas = ((1.0 - kept) / kept).sqrt().log()
    timesteps = torch.linspace(999.0, 0.0, steps)
    low = timesteps.floor().long()
    high, part = (low + 1).clamp(max=999), timesteps - low
    sigmas = torch.exp((1.0 - part) * log_sigmas[low] + part * log_sigmas[high])
    return timesteps, torch.cat([sigmas, torch.zeros(1)])


def _noise(seed: int) -> torch.Tensor:
    return torch.randn((1, *LATENT_SHAPE), generator=torch.Generator().manual_seed(seed))


def _euler(
    unet: UNet2DConditionModel,
    noise: torch.Tensor,
    context: torch.Tensor,
    *,
    steps: int,
    cfg: float,
) -> torch.Tensor:
    timesteps, sigmas = normal_schedule(steps)
    x = noise * (1.0 + sigmas[0] ** 2).sqrt()
    for timestep, sigma, following in zip(timesteps, sigmas, sigmas[1:], strict=False):
        scaled = x / (sigma**2 + 1.0).sqrt()
        twice = torch.cat([scaled, scaled]).contiguous(memory_format=torch.channels_last)
        negative, positive = unet(twice, timestep.expand(len(twice)), context).sample.chunk(2)
        x = x + (negative + cfg * (positive - negative)) * (following - sigma)
    return x
