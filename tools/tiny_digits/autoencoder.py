"""The VAE: 64x64 pixels to 4 latent channels of 8x8, a factor of eight as in Stable Diffusion."""

from __future__ import annotations

import logging
import time

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import nn

from .schedule import warmup_cosine

logger = logging.getLogger(__name__)

# Stable Diffusion's; our latents are scaled to fit it, so that any engine may assume it.
SCALING_FACTOR = 0.18215
_KL_WEIGHT = 1e-4
_POLISH_NOISE = 0.03  # as a share of the latents' standard deviation


def build_autoencoder() -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(16, 16, 32, 32),
        layers_per_block=1,
        norm_num_groups=4,
        latent_channels=4,
        sample_size=64,
        scaling_factor=SCALING_FACTOR,
        mid_block_add_attention=False,
    )


def to_tensor(images: np.ndarray) -> torch.Tensor:
    """uint8 [B,64,64,3] to float32 [B,3,64,64] in -1..1."""
    tensor = torch.from_numpy(images).permute(0, 3, 1, 2).float().div(127.5).sub(1.0)
    return tensor.contiguous(memory_format=torch.channels_last)


def train_autoencoder(
    vae: AutoencoderKL, images: np.ndarray, *, steps: int, batch: int, seed: int
) -> None:
    """Train in place to reproduce uint8 [N,64,64,3]; a small KL term keeps the latents smooth."""
    generator = torch.Generator().manual_seed(seed)
    vae.to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(vae.parameters(), lr=3e-3, weight_decay=0.0)
    schedule = warmup_cosine(optimizer, steps=steps)
    started = time.monotonic()
    for step in range(steps):
        rows = torch.randint(len(images), (batch,), generator=generator)
        pixels = to_tensor(images[rows.numpy()])
        posterior = vae.encode(pixels).latent_dist
        difference = vae.decode(posterior.sample(generator=generator)).sample - pixels
        kl = 0.5 * (posterior.mean.square() + posterior.var - 1.0 - posterior.logvar).mean()
        squared = difference.square().mean()
        loss = squared + 0.2 * difference.abs().mean() + _KL_WEIGHT * kl
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if (step + 1) % 100 == 0 or step + 1 == steps:
            psnr, seconds = _psnr(squared.item()), time.monotonic() - started
            logger.info(
                "autoencoder: step %d of %d, %.1f dB, %.0f s", step + 1, steps, psnr, seconds
            )
    vae.eval()


@torch.no_grad()
def encode_all(vae: AutoencoderKL, images: np.ndarray, *, batch: int = 128) -> torch.Tensor:
    """Means of the latents, float32 [N,4,8,8], before scaling_factor."""
    parts = [
        vae.encode(to_tensor(images[at : at + batch])).latent_dist.mean
        for at in range(0, len(images), batch)
    ]
    return torch.cat(parts).contiguous()


@torch.no_grad()
def standardize(vae: AutoencoderKL, latents: torch.Tensor) -> torch.Tensor:
    """Fold a shift and a scale per channel into the VAE's 1x1 convolutions.

    After that, latents times scaling_factor have mean 0 and variance 1. Decoded images stay the
    same. Returns `latents`, [N,4,8,8], as the changed VAE would encode them.
    """
    mean = latents.mean((0, 2, 3))
    scale = (1.0 / SCALING_FACTOR) / latents.std((0, 2, 3))
    into, out = vae.quant_conv, vae.post_quant_conv
    into.weight[:4] *= scale[:, None, None, None]
    into.bias[:4] = (into.bias[:4] - mean) * scale
    into.bias[4:] += 2.0 * scale.log()  # the other half is log variance
    out.bias += out.weight[:, :, 0, 0] @ mean
    out.weight /= scale[None, :, None, None]
    return (latents - mean[:, None, None]) * scale[:, None, None]


def polish_decoder(
    vae: AutoencoderKL,
    latents: torch.Tensor,
    images: np.ndarray,
    *,
    steps: int,
    batch: int,
    seed: int,
) -> None:
    """Train only the decoder, in place, on fixed latents [N,4,8,8] of images, uint8 [N,64,64,3].

    The latents are those before scaling_factor. A step costs half as much as a full one, and a
    little noise teaches the decoder to tolerate the UNet's remaining errors.
    """
    generator = torch.Generator().manual_seed(seed)
    parameters = [*vae.post_quant_conv.parameters(), *vae.decoder.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=2e-3, weight_decay=0.0, fused=True)
    schedule = warmup_cosine(optimizer, steps=steps)
    started = time.monotonic()
    for step in range(steps):
        rows = torch.randint(len(images), (batch,), generator=generator)
        noise = torch.randn((batch, *latents.shape[1:]), generator=generator)
        noise = noise * (_POLISH_NOISE / SCALING_FACTOR)
        difference = vae.decode(latents[rows] + noise).sample - to_tensor(images[rows.numpy()])
        squared = difference.square().mean()
        loss = squared + 0.2 * difference.abs().mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        if (step + 1) % 100 == 0 or step + 1 == steps:
            psnr, seconds = _psnr(squared.item()), time.monotonic() - started
            logger.info("decoder: step %d of %d, %.1f dB, %.0f s", step + 1, steps, psnr, seconds)


@torch.no_grad()
def reconstruction_psnr(vae: AutoencoderKL, images: np.ndarray, *, batch: int = 128) -> float:
    """Peak signal-to-noise ratio, in dB, of encoding and decoding uint8 [N,64,64,3]."""
    squared = 0.0
    for at in range(0, len(images), batch):
        pixels = to_tensor(images[at : at + batch])
        decoded = vae.decode(vae.encode(pixels).latent_dist.mean).sample.clamp(-1, 1)
        squared += (decoded - pixels).square().mean().item() * len(pixels)
    return _psnr(squared / len(images))


def _psnr(squared_error: float) -> float:
    """Pixels range over 2 (-1..1), so the square of the peak is 4."""
    return float(10.0 * np.log10(4.0 / max(squared_error, 1e-12)))
