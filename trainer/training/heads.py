"""The last layer of a frozen backbone, fitted without an optimiser's noise.

logistic   L2-regularised logistic regression, its strength chosen by cross-validation
cosine     the class whose mean feature points the same way (nearest class mean)
knn        a vote of the nearest training images, by cosine, weighted by similarity
"""

from __future__ import annotations

import hashlib
import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
from torch import nn
from torch.nn import functional

logger = logging.getLogger(__name__)

# Weights of the penalty for one image, on features of variance 1. From strong to weak, as each fit
# starts from the one before.
STRENGTHS = (100.0, 30.0, 10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01)
_DEFAULT_STRENGTH = 1.0  # where a class has too few images for folds
_PATIENCE = 2
_FOLDS = 5
_MOST_ROWS = 1000  # for choosing the strength; the fit itself takes all
_TOLERANCE, _FINAL_TOLERANCE, _ITERATIONS = 1e-3, 1e-5, 500  # of the gradient
_COSINE_SCALE = 10.0
_NEIGHBOURS, _TEMPERATURE = 20, 0.07  # as in DINO's evaluation (Caron et al. 2021, section 4.1)


@dataclass(frozen=True)
class LogisticFit:
    """`weight` [classes,D] and `bias` [classes] of a Linear; `strength` is the penalty's."""

    weight: torch.Tensor
    bias: torch.Tensor
    strength: float


class UnitLength(nn.Module):
    """Each row scaled to length 1."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return functional.normalize(values, dim=1)


class Neighbours(nn.Module):
    """Log of the share of votes per class among the nearest of the stored rows, which have length
    1: [N,D] to [N,classes]. Each votes exp(cosine / 0.07)."""

    rows: torch.Tensor
    labels: torch.Tensor

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.register_buffer("rows", torch.zeros(0, width))
        self.register_buffer("labels", torch.zeros(0, dtype=torch.int64))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        near = (values @ self.rows.T).topk(min(_NEIGHBOURS, len(self.rows)), dim=1)
        votes = torch.softmax(near.values / _TEMPERATURE, dim=1)
        of_class = functional.one_hot(self.labels[near.indices], self.num_classes).to(votes.dtype)
        return ((votes[:, :, None] * of_class).sum(dim=1) + 1e-4).log()

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Takes as many rows as the file has."""
        for name in ("rows", "labels"):
            stored = state.get(prefix + name)
            if stored is not None and stored.shape[1:] == getattr(self, name).shape[1:]:
                setattr(self, name, torch.empty_like(stored))
        super()._load_from_state_dict(state, prefix, *rest)


def new_head(kind: str, width: int, num_classes: int) -> list[nn.Module]:
    """The layers behind a frozen backbone's standardised features, to be fitted or loaded."""
    if kind == "knn":
        return [UnitLength(), Neighbours(width, num_classes)]
    unit = [UnitLength()] if kind == "cosine" else []
    return [*unit, nn.Linear(width, num_classes)]


@torch.no_grad()
def fit_head(
    kind: str,
    network: nn.Sequential,
    features: torch.Tensor,
    labels: torch.Tensor,
    *,
    judged: torch.Tensor | None = None,
    groups: torch.Tensor | None = None,
    seed: int = 0,
) -> None:
    """Fits `network`, standardisation and a head of this kind, in place: float32 [n,D], int64 [n].

    `judged` and `groups` [n] are those of LabelledTensors.
    """
    values = network[:-1](features)
    last = network[-1]
    if isinstance(last, Neighbours):
        last.rows, last.labels = values.clone(), labels.clone()
    elif kind == "cosine" and isinstance(last, nn.Linear):
        classes = range(last.out_features)
        # A class without images keeps a zero mean, which no feature is nearest to.
        sums = torch.stack([values[labels == label].sum(dim=0) for label in classes])
        last.weight.copy_(_COSINE_SCALE * functional.normalize(sums, dim=1))
        last.bias.zero_()
    elif isinstance(last, nn.Linear):
        found = fit_logistic(
            values,
            labels,
            num_classes=last.out_features,
            judged=judged,
            groups=groups,
            seed=seed,
        )
        last.weight.copy_(found.weight)
        last.bias.copy_(found.bias)


def fit_logistic(
    features: torch.Tensor,
    labels: torch.Tensor,
    *,
    num_classes: int,
    judged: torch.Tensor | None = None,
    groups: torch.Tensor | None = None,
    seed: int = 0,
    strength: float | None = None,
    tolerance: float = _FINAL_TOLERANCE,
) -> LogisticFit:
    """Multinomial logistic regression with an L2 penalty on standardised features.

    `strength` None: `choose_strength`'s, with rows of one of the `groups` [n] in one fold.
    `tolerance` is of the gradient. Safe to call in threads.
    """
    values, turn = _shortened(features.double().cpu().numpy())
    target = labels.cpu().numpy()
    if strength is None:
        kept_together = None if groups is None else groups.cpu().numpy()
        strength = _chosen_strength(values, target, _counted(judged, target), seed, kept_together)
    model = _fitted(strength, tolerance, values, target)
    weight = np.zeros((num_classes, values.shape[1]))
    bias = np.full(num_classes, -1e4)  # a class without a single image is never predicted
    if len(model.classes_) == 2:  # sklearn keeps one row, for the second class
        weight[model.classes_] = np.concatenate([-model.coef_, model.coef_]) / 2
        bias[model.classes_] = np.concatenate([-model.intercept_, model.intercept_]) / 2
    else:
        weight[model.classes_], bias[model.classes_] = model.coef_, model.intercept_
    return LogisticFit(
        torch.from_numpy(weight @ turn).float(), torch.from_numpy(bias).float(), strength
    )


def choose_strength(
    features: torch.Tensor, labels: torch.Tensor, *, judged: torch.Tensor | None = None, seed: int
) -> float:
    """The one of STRENGTHS with the lowest cross entropy out of fold, on the rows `judged` [n] (all
    by default), in five stratified folds, or as many as the smallest class has rows. Above 1,000
    rows a sample of them decides."""
    values, _ = _shortened(features.double().cpu().numpy())
    target = labels.cpu().numpy()
    return _chosen_strength(values, target, _counted(judged, target), seed)


def _counted(judged: torch.Tensor | None, target: np.ndarray) -> np.ndarray:
    return np.ones(len(target), bool) if judged is None else judged.cpu().numpy()


def _shortened(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rows in as many coordinates as they span, and the matrix that turns these back.

    A penalised solution is a combination of the rows, so nothing is lost, and 300 rows of 2,048
    features become 300 by 300.
    """
    if len(values) >= values.shape[1]:
        return values, np.eye(values.shape[1])
    left, sizes, right = np.linalg.svd(values, full_matrices=False)
    return left * sizes, right


def _chosen_strength(
    values: np.ndarray,
    target: np.ndarray,
    judged: np.ndarray,
    seed: int,
    groups: np.ndarray | None = None,
) -> float:
    groups = np.arange(len(target)) if groups is None else groups
    random = np.random.default_rng(seed)
    if len(target) > _MOST_ROWS:
        kept = _sample(target, judged, random)
        values, target, judged, groups = values[kept], target[kept], judged[kept], groups[kept]
    chosen = np.flatnonzero(judged)
    parts = [
        (np.setdiff1d(np.arange(len(target)), chosen[held]), chosen[held])
        for held in _held_parts(target[chosen], groups[chosen], seed)
    ]
    if not parts or any(set(target[train]) != set(target) for train, _ in parts):
        return _DEFAULT_STRENGTH
    models = [_regression(STRENGTHS[0], warm_start=True) for _ in parts]
    losses: list[float] = []
    for strength in STRENGTHS:
        total = 0.0
        for model, (train, out) in zip(models, parts, strict=True):
            model.C = 1 / strength
            _fit(model, values[train], target[train])
            column = np.searchsorted(model.classes_, target[out])
            with np.errstate(divide="ignore"):  # a weak penalty may be quite sure, and wrong
                log_chance = model.predict_log_proba(values[out])
            total -= log_chance[np.arange(len(out)), column].sum()
        losses.append(total)
        if len(losses) - 1 - int(np.argmin(losses)) == _PATIENCE:
            break  # weaker ones take longest, and only get worse
    return STRENGTHS[int(np.argmin(losses))]


def _held_parts(target: np.ndarray, groups: np.ndarray, seed: int) -> list[np.ndarray]:
    """The rows that each fold holds out, in whole groups; none where a class has too few groups."""
    counts = [len(np.unique(groups[target == label])) for label in np.unique(target)]
    folds = min(_FOLDS, *counts) if len(counts) > 1 else 0
    if folds < 2:
        return []
    if len(np.unique(groups)) == len(groups):
        plain = StratifiedKFold(folds, shuffle=True, random_state=seed)
        return [held for _, held in plain.split(target, target)]
    grouped = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    return [held for _, held in grouped.split(target, target, groups) if len(held)]


def _sample(target: np.ndarray, judged: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """At most 1,000 rows, of every class and of judged and other rows in proportion."""
    share = _MOST_ROWS / len(target)
    kept = []
    for label in np.unique(target):
        for flag in (True, False):
            rows = np.flatnonzero((target == label) & (judged == flag))
            kept.append(random.permutation(rows)[: int(np.ceil(share * len(rows)))])
    return np.sort(np.concatenate(kept))


def _regression(
    strength: float, *, tolerance: float = _TOLERANCE, warm_start: bool = False
) -> LogisticRegression:
    return LogisticRegression(
        C=1 / strength, max_iter=_ITERATIONS, tol=tolerance, warm_start=warm_start
    )


def _fit(model: LogisticRegression, values: np.ndarray, target: np.ndarray) -> None:
    with _unwarned():  # close enough for a choice
        model.fit(values, target)


_latest: tuple[bytes, LogisticRegression] | None = None


def _fitted(
    strength: float, tolerance: float, values: np.ndarray, target: np.ndarray
) -> LogisticRegression:
    """The regression on these rows; the latest one again if it was on the same. So it is for the
    seeds of an arm that draws nothing, such as the baseline: only their folds differ."""
    global _latest
    key = hashlib.sha256(f"{strength} {tolerance} {values.shape}".encode())
    for array in (values, target):
        key.update(array.tobytes())
    latest = _latest
    if latest is not None and latest[0] == key.digest():
        return latest[1]
    model = _regression(strength, tolerance=tolerance)
    _fit(model, values, target)
    _latest = key.digest(), model
    return model


_fitting = threading.Lock()
_fits = 0
_filters = warnings.catch_warnings()


@contextmanager
def _unwarned() -> Iterator[None]:
    """No ConvergenceWarning in here. Filters belong to the whole process, so of several threads the
    first sets them and the last restores them."""
    global _fits, _filters
    with _fitting:
        if _fits == 0:
            _filters = warnings.catch_warnings()
            _filters.__enter__()
            warnings.simplefilter("ignore", ConvergenceWarning)
        _fits += 1
    try:
        yield
    finally:
        with _fitting:
            _fits -= 1
            if _fits == 0:
                _filters.__exit__(None, None, None)
