"""Class probabilities of images from heads that have not seen them: logistic regression on
features, five folds."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
from threadpoolctl import threadpool_limits

from trainer.training.heads import choose_strength, fit_logistic

FOLDS = 5
_TOLERANCE = 1e-4  # thirty heads are fitted for a check; at 1e-3 verdicts change
_BLOCK = 1024  # rows
_COMPONENTS = 256  # of the features; the time to fit a head grows with their number


@dataclass(frozen=True)
class Head:
    """Logistic regression: `weight` [C,D] and `bias` [C] on `compressed` features; `strength` is
    that of its penalty."""

    weight: np.ndarray
    bias: np.ndarray
    strength: float

    def logits(self, values: np.ndarray) -> np.ndarray:
        """[n,D] to [n,C]."""
        return values @ self.weight.T + self.bias

    def probabilities(self, values: np.ndarray) -> np.ndarray:
        """[n,D] to [n,C], rows summing to 1."""
        return softmax(self.logits(values))


def softmax(logits: np.ndarray) -> np.ndarray:
    """Along the last axis."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


def compressed(features: np.ndarray) -> np.ndarray:
    """Features [n,D] as at most 256 principal components of the standardised features, float64.

    The directions are those of all images together, labels unseen. Their scale stays, so a penalty
    acts as on the standardised features.
    """
    mean = features.mean(axis=0)
    blocks = [features[start : start + _BLOCK] for start in range(0, len(features), _BLOCK)]
    total, squares = np.zeros((2, features.shape[1]))
    for block in blocks:
        centred = block.astype(np.float64) - mean
        total += centred.sum(axis=0)
        squares += np.einsum("nd,nd->d", centred, centred)
    spread = np.sqrt(np.maximum(squares / len(features) - (total / len(features)) ** 2, 0.0))
    scale = np.where(spread > 1e-8 * max(spread.max(), 1e-12), spread, 1.0)

    def standardised(block: np.ndarray) -> np.ndarray:
        return (block.astype(np.float64) - mean) / scale

    if min(features.shape) <= _COMPONENTS:
        return standardised(features)
    # The eigenvectors of the smaller of the two products, which is exact and cheap. A block at a
    # time, since all in float64 would take twice the memory of the features.
    product = sum(each.T @ each for each in map(standardised, blocks))
    sizes, vectors = np.linalg.eigh(product)
    largest = vectors[:, np.argsort(sizes)[::-1][:_COMPONENTS]]
    return np.concatenate([standardised(block) @ largest for block in blocks])


def fit_head(
    values: np.ndarray,
    labels: np.ndarray,
    *,
    num_classes: int,
    judged: np.ndarray | None = None,
    strength: float | None = None,
    seed: int = 0,
) -> Head:
    """A head for labels 0..C-1. `judged` [n] marks the rows by which the strength is chosen if it
    is not given; see `fit_logistic`."""
    found = fit_logistic(
        torch.from_numpy(values),
        torch.from_numpy(labels),
        num_classes=num_classes,
        judged=None if judged is None else torch.from_numpy(judged),
        strength=strength,
        seed=seed,
        tolerance=_TOLERANCE,
    )
    return Head(found.weight.double().numpy(), found.bias.double().numpy(), found.strength)


def out_of_fold(
    values: np.ndarray,
    labels: np.ndarray,
    *,
    num_classes: int,
    judged: np.ndarray | None = None,
    groups: Sequence[str] | None = None,
    trusted: np.ndarray | None = None,
    strength: float | None = None,
    seed: int = 0,
) -> tuple[np.ndarray, float]:
    """Each row's class probabilities [n,C] from a head trained on the other folds, and the strength
    of its penalty, chosen once on all rows.

    Folds are stratified by label, and by `judged` where it is given, so that every fold has real
    and synthetic images of every class; rows of one group are in one fold. Heads of different folds
    are trained at once, each on one core.
    """
    strata = labels if judged is None else 2 * labels + judged
    smallest = int(np.bincount(strata)[np.unique(strata)].min())
    folds = max(2, min(FOLDS, smallest))
    if groups is None:
        parts = StratifiedKFold(folds, shuffle=True, random_state=seed).split(values, strata)
    else:
        grouped = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
        parts = grouped.split(values, strata, np.asarray(groups))
    if strength is None:
        strength = choose_strength(
            torch.from_numpy(values),
            torch.from_numpy(labels),
            judged=None if judged is None else torch.from_numpy(judged),
            seed=seed,
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of a class with one synthetic image
        splits = list(parts)

    def judge(train: np.ndarray, held: np.ndarray) -> np.ndarray:
        train = train if trusted is None else train[trusted[train]]
        head = fit_head(values[train], labels[train], num_classes=num_classes, strength=strength)
        return head.probabilities(values[held])

    found = np.zeros((len(values), num_classes))
    with threadpool_limits(1), ThreadPoolExecutor(min(folds, os.cpu_count() or 1)) as pool:
        judged_parts = pool.map(judge, *zip(*splits, strict=True))
        for (_, held), part in zip(splits, judged_parts, strict=True):
            found[held] = part
    return found, strength
