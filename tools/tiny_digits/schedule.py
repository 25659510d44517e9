"""The learning rate of every stage: linear warm-up, then a cosine down to zero."""

from __future__ import annotations

import math

import torch


def warmup_cosine(
    optimizer: torch.optim.Optimizer, *, steps: int, warmup_share: float = 0.06
) -> torch.optim.lr_scheduler.LambdaLR:
    """Scale the optimizer's own learning rate over `steps` calls of `step()`."""
    warmup = max(1, round(steps * warmup_share))

    def share(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, share)
