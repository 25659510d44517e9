"""Whether an image can be told from real ones: the probability of being real, out of fold.

Both sides have to come through one pipeline (trainer.quality.embedding.features), or this measures
JPEG.
Images of one prompt, or of one source image, are in one fold: the head must not know them already.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from trainer.data.samples import Sample
from trainer.data.splits.folds import group_of
from trainer.quality.images import Origin
from trainer.quality.probabilities import FOLDS, out_of_fold

_DRAWS = 200


@dataclass(frozen=True)
class Realness:
    """`made` [n] and `real` [m]: probability of being real if there were as many of one as of the
    other. `auc` with a 95% bootstrap interval; `grouped` says whether prompts were held out."""

    made: np.ndarray
    real: np.ndarray
    auc: float
    low: float
    high: float
    grouped: bool


def tell_apart(
    real: np.ndarray,
    made: np.ndarray,
    *,
    groups: tuple[Sequence[str], Sequence[str]] | None,
    seed: int = 0,
) -> Realness:
    """Features [m,D] and [n,D], and the groups of both that are never split, or None."""
    values = np.concatenate([real, made])
    labels = (np.arange(len(values)) < len(real)).astype(np.int64)
    names = None if groups is None else [*groups[0], *groups[1]]
    found, _ = out_of_fold(values, labels, num_classes=2, groups=names, seed=seed)
    chance = found[:, 1].clip(1e-9, 1 - 1e-9)
    odds = chance / (1 - chance) * (len(made) / len(real))
    balanced = odds / (1 + odds)
    scores = balanced[labels == 0], balanced[labels == 1]
    low, high = _interval(*scores, seed)
    return Realness(*scores, area_under_curve(*scores), low, high, names is not None)


def area_under_curve(made: np.ndarray, real: np.ndarray) -> float:
    """The share of pairs of scores [n] and [m] in which the real one is higher, ties counted half:
    the area under the ROC curve (Hanley and McNeil 1982), without what scikit-learn checks first,
    which takes longer than a draw of the bootstrap."""
    ranks = rankdata(np.concatenate([made, real]))[len(made) :]
    return float((ranks.mean() - (len(real) + 1) / 2) / len(made))


def _interval(made: np.ndarray, real: np.ndarray, seed: int) -> tuple[float, float]:
    random = np.random.RandomState(seed)
    draws = [
        area_under_curve(*(random.choice(side, len(side)) for side in (made, real)))
        for _ in range(_DRAWS)
    ]
    low, high = np.quantile(draws, (0.025, 0.975))
    return float(low), float(high)


def source_groups(
    real: Sequence[Sample], made: Sequence[Sample], origins: Sequence[Origin]
) -> tuple[list[str], list[str]] | None:
    """Which images must not be split between folds: those of one source image or one prompt; None
    if there are too few prompts for folds."""
    sources = {each.source_image for each in origins if each.source_image}
    ours = [each.file if each.file in sources else f"real {group_of(each)}" for each in real]
    theirs = [
        origin.source_image or (f"prompt {origin.prompt}" if origin.prompt else f"made {each.file}")
        for each, origin in zip(made, origins, strict=True)
    ]
    return (ours, theirs) if len(set(theirs)) >= 2 * FOLDS else None
