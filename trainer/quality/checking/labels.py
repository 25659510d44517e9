"""Whether an image shows what its label says: its own class's probability out of fold.

The head is trained on real AND synthetic images: one that knows the real ones alone takes every
style that they lack for another class (it rejected 58% of right images in ten styles, this one at
most 4% in any). Wrong labels among the synthetic ones spoil it a little, so what is rejected is
left out and the heads are trained again, twice. Measured with lite0 and 20% wrong labels, three
draws each, recall and share of right images rejected: digits in ten styles, 30 real per class, .96
to .98 and .003 to .012; 12 flowers, 10 real, 1.0 and .02 to .07; CIFAR-10 against Stable Diffusion,
30 real, .71 to .81 and .003 to .008.

A mistake that a whole class makes is learnt, not found: see trainer.quality.checking.groups.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trainer.quality.probabilities import out_of_fold

QUANTILE = 0.05  # of the real images would be rejected
_CERTAIN = 0.5  # an image that is more likely than not its class is never rejected: our choice
_ROUNDS = 2


@dataclass(frozen=True)
class LabelCheck:
    """`made` [n,C] and `real` [m,C] are probabilities out of fold, `own` [n] and `real_own` [m]
    those of each image's own class. Below `threshold` a label counts as wrong; `cost` is the share
    of real images below it."""

    made: np.ndarray
    real: np.ndarray
    own: np.ndarray
    real_own: np.ndarray
    threshold: float
    strength: float

    @property
    def rejected(self) -> np.ndarray:
        """bool [n]."""
        return self.own < self.threshold

    @property
    def cost(self) -> float:
        """Share of the real images that the same threshold would reject."""
        return float((self.real_own < self.threshold).mean())


def check_labels(
    real: np.ndarray,
    real_labels: np.ndarray,
    made: np.ndarray,
    made_labels: np.ndarray,
    *,
    num_classes: int,
    seed: int = 0,
) -> LabelCheck:
    """The check of `made` [n,D] beside `real` [m,D], labels 0..C-1, features as `compressed` gives
    them for both together."""
    values, labels = np.concatenate([real, made]), np.concatenate([real_labels, made_labels])
    is_real = np.arange(len(values)) < len(real)
    trusted, strength = np.ones(len(values), bool), None
    for turn in range(_ROUNDS + 1):
        probabilities, strength = out_of_fold(
            values,
            labels,
            num_classes=num_classes,
            judged=is_real,
            trusted=trusted,
            strength=strength,
            seed=seed + turn,
        )
        own = probabilities[np.arange(len(labels)), labels]
        threshold = min(_CERTAIN, float(np.quantile(own[is_real], QUANTILE)))
        trusted = is_real | (own >= threshold)
    return LabelCheck(
        probabilities[~is_real],
        probabilities[is_real],
        own[~is_real],
        own[is_real],
        threshold,
        strength or 0.0,
    )
