"""Mixup (Zhang et al. 2018) and CutMix (Yun et al. 2019): each image is mixed with another of its
batch, and counts for both classes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from trainer.config import TrainingConfig


@dataclass(frozen=True)
class Mixed:
    """`pixels` [N,3,S,S]; `share` of each belongs to `labels` [N], the rest to `others` [N]."""

    pixels: torch.Tensor
    labels: torch.Tensor
    others: torch.Tensor
    share: float

    def loss(self, logits: torch.Tensor, *, smoothing: float) -> torch.Tensor:
        """The mean cross entropy, over both classes in proportion."""
        own = functional.cross_entropy(logits, self.labels, label_smoothing=smoothing)
        if self.share == 1.0:
            return own
        other = functional.cross_entropy(logits, self.others, label_smoothing=smoothing)
        return self.share * own + (1 - self.share) * other


def mixed(
    pixels: torch.Tensor, labels: torch.Tensor, config: TrainingConfig, random: np.random.Generator
) -> Mixed:
    """A batch mixed as `config` says: by mixup, by CutMix, or by one of the two at random; one
    share for the whole batch, from a Beta distribution with the alpha of its kind."""
    kinds = [kind for kind in ("mixup", "cutmix") if getattr(config, kind)]
    if not kinds or len(pixels) < 2:
        return Mixed(pixels, labels, labels, 1.0)
    kind = kinds[int(random.integers(len(kinds)))]
    alpha = getattr(config, kind)
    share = float(random.beta(alpha, alpha))
    others = pixels.float().roll(1, 0)
    if kind == "mixup":
        return Mixed(others.lerp(pixels.float(), share), labels, labels.roll(1), share)
    side = pixels.shape[-1]
    cut = round(side * (1 - share) ** 0.5)
    top, left = (int(start) for start in random.integers(0, side - cut + 1, 2))
    pasted = pixels.float().clone()
    window = (..., slice(top, top + cut), slice(left, left + cut))
    pasted[window] = others[window]
    return Mixed(pasted, labels, labels.roll(1), 1 - cut * cut / (side * side))
