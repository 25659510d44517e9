"""Metrics of one run, and how much each test image counts in them. Pure functions.

The variance of a metric over draws of test images is the sum of the squared effects of the images
(infinitesimal jackknife, Jaeckel 1972; for shares exactly the textbook variance). An effect is the
derivative of the metric with respect to the image's weight. Images are drawn within their class, as
test sets are: effects are centred within a class of n images and scaled by sqrt(n / (n - 1)).
Resampling (Rao and Wu 1988) gives the same to first order, a hundred times slower and with noise of
its own; tests compare the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class CellScores:
    """One metric of one cell: `values` [S] by seed; `effects` [S, N] of each test image on them,
    where `judge` keeps 32 bits.

    `overlap` is None where all seeds have the same test images. Where each splits the data anew it
    is the number of test images for each training image, and `effects` mean nothing. `one_image` is
    what one image of an average class counts: no standard error from images is
    smaller.
    """

    seeds: tuple[int, ...]
    values: np.ndarray
    effects: np.ndarray
    one_image: float = 0.0
    overlap: float | None = None

    def between(self, low: int, high: int | None = None) -> CellScores:
        """Those of the seeds from `low` on and below `high`."""
        high = max(self.seeds, default=0) + 1 if high is None else high
        kept = [place for place, seed in enumerate(self.seeds) if low <= seed < high]
        names = tuple(self.seeds[place] for place in kept)
        return replace(self, seeds=names, values=self.values[kept], effects=self.effects[kept])


def confusion_counts(true: np.ndarray, predicted: np.ndarray, num_classes: int) -> np.ndarray:
    """Float64 [..., K, K] for class indices `true` [N] and `predicted` [..., N]; row is the true
    class."""
    runs = predicted.reshape(-1, predicted.shape[-1])
    first = np.arange(len(runs))[:, None] * num_classes**2
    codes = first + true * num_classes + runs
    counts = np.bincount(codes.ravel(), minlength=len(runs) * num_classes**2)
    shape = (*predicted.shape[:-1], num_classes, num_classes)
    return counts.reshape(shape).astype(np.float64)


def metric_effects(confusion: np.ndarray) -> Mapping[str, tuple[np.ndarray, np.ndarray]]:
    """Each metric [...] of confusion counts [..., K, K], and its effects [..., K, K]: those of an
    image by true and predicted class.

    Accuracy, and macro and weighted precision, recall and F1, named as in trainer.analysis.metrics.
    A division by zero counts as 0.
    """
    right = np.diagonal(confusion, axis1=-2, axis2=-1)
    actual, guessed = confusion.sum(axis=-1), confusion.sum(axis=-2)
    total = actual.sum(axis=-1, keepdims=True)
    nothing = np.zeros_like(right)
    by_class = {
        "precision": _ratio(right, guessed, nothing, nothing + 1),
        "recall": _ratio(right, actual, nothing + 1, nothing),
        "f1": _ratio(2 * right, actual + guessed, nothing + 1, nothing + 1, times=2.0),
    }
    share = actual / total
    accuracy = (right.sum(axis=-1) / total[..., 0], _table(nothing, nothing, 1 / total + nothing))
    found = {"accuracy": accuracy}
    for prefix, weight in (("", np.full_like(share, 1 / right.shape[-1])), ("weighted_", share)):
        found |= {
            f"{prefix}{name}": (
                (values * weight).sum(axis=-1),
                _table(*(weight * part for part in parts)),
            )
            for name, (values, *parts) in by_class.items()
        }
    found["weighted_recall"] = accuracy  # the same number, identical to the last bit
    return {name: (value, _centred(table, confusion)) for name, (value, table) in found.items()}


def one_image(true: np.ndarray, num_classes: int) -> float:
    """What one image of an average class counts in a macro average: 1/N if classes are equal."""
    counts = np.bincount(true, minlength=num_classes)
    return float((1 / counts[counts > 0]).mean() / num_classes)


def _ratio(
    above: np.ndarray,
    below: np.ndarray,
    by_true: np.ndarray,
    by_predicted: np.ndarray,
    *,
    times: float = 1.0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """above / below for each class, and its derivatives: for an image of the class, for one
    predicted to be of it, and in addition for one that is both."""
    inverse = np.divide(1.0, below, out=np.zeros_like(below), where=below > 0)
    values = above * inverse
    return values, -values * by_true * inverse, -values * by_predicted * inverse, times * inverse


def _table(by_true: np.ndarray, by_predicted: np.ndarray, both: np.ndarray) -> np.ndarray:
    table: np.ndarray = by_true[..., :, None] + by_predicted[..., None, :]
    return table + both[..., :, None] * np.eye(both.shape[-1])


def _centred(table: np.ndarray, confusion: np.ndarray) -> np.ndarray:
    n = confusion.sum(axis=-1, keepdims=True)
    mean = (table * confusion).sum(axis=-1, keepdims=True) / np.maximum(n, 1)
    effects: np.ndarray = (table - mean) * np.sqrt(n / np.maximum(n - 1, 1))
    return effects
