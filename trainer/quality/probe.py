"""A logistic regression on features, as the grid's frozen models have it, for judging images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from sklearn.model_selection import StratifiedKFold

from trainer.quality.sets import LabelledFeatures
from trainer.training.heads import LogisticFit, fit_logistic

_FOLDS = 5
_SMALLEST_SPREAD = 1e-6  # of the largest: what never varies stays as it is


@dataclass(frozen=True)
class Head:
    """A logistic regression on standardised features."""

    mean: np.ndarray
    scale: np.ndarray
    fit: LogisticFit

    def predict(self, features: np.ndarray) -> np.ndarray:
        """The numbers of the classes, int64 [n], of rows [n,D]."""
        values = torch.from_numpy((features - self.mean) / self.scale).float()
        return (values @ self.fit.weight.T + self.fit.bias).argmax(dim=1).numpy()


def fit_head(
    rows: LabelledFeatures,
    classes: int,
    *,
    judged: np.ndarray | None = None,
    strength: float | None = None,
    seed: int = 0,
) -> Head:
    """The grid's frozen head. `judged` [n] marks the real rows, by which features are standardised
    and the strength is chosen; all by default. A given `strength` is not chosen."""
    real = rows.features if judged is None else rows.features[judged]
    mean, scale = real.mean(axis=0), real.std(axis=0)
    scale = np.where(scale > _SMALLEST_SPREAD * max(scale.max(), 1e-12), scale, 1.0)
    fit = fit_logistic(
        torch.from_numpy((rows.features - mean) / scale),
        torch.from_numpy(rows.labels),
        num_classes=classes,
        judged=None if judged is None else torch.from_numpy(judged),
        strength=strength,
        seed=seed,
    )
    return Head(mean, scale, fit)


def out_of_fold(rows: LabelledFeatures, classes: int, *, seed: int = 0) -> np.ndarray:
    """What heads that did not see a row take it for, int64 [n]: five stratified folds, or as many
    as the smallest class has rows, at least two."""
    folds = min(_FOLDS, int(rows.counts(classes).min()))
    predicted = np.empty(len(rows), dtype=np.int64)
    splits = StratifiedKFold(folds, shuffle=True, random_state=seed)
    for fit, held in splits.split(rows.features, rows.labels):
        head = fit_head(rows.take(fit), classes, seed=seed)
        predicted[held] = head.predict(rows.features[held])
    return predicted
