"""Metrics from true classes and predicted probabilities. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.metrics import precision_recall_fscore_support

METRICS = {
    "accuracy": "Accuracy",
    "precision": "Macro precision",
    "recall": "Macro recall",
    "f1": "Macro F1",
}
FURTHER_METRICS = {
    "weighted_precision": "Weighted precision",
    "weighted_recall": "Weighted recall",
    "weighted_f1": "Weighted F1",
    "top5": "Top-5 accuracy",
    "ece": "Calibration error (ECE)",
    "nll": "Negative log-likelihood",
}
ECE_BINS = 15
_TOP_5_CLASSES = 11  # with ten classes, five random guesses are right half the time
_SMALLEST = float(np.finfo(np.float64).tiny)


def classification_metrics(
    true: Sequence[int] | np.ndarray, probabilities: np.ndarray, num_classes: int
) -> dict[str, float]:
    """All of METRICS and FURTHER_METRICS: nll in nats, the others in 0..1; `top5` with more than
    ten classes only.

    `true` holds class indices [N], `probabilities` is [N, num_classes] with rows that sum to 1. The
    predicted class is the likeliest, the first among equals. A class that is never predicted has
    precision 0, one that never occurs has recall 0. Weighted recall always equals accuracy; macro
    recall does if all classes have the same number of images.
    """
    labels, chances = np.asarray(true, dtype=np.int64), np.asarray(probabilities, dtype=np.float64)
    predicted = chances.argmax(axis=1)
    found = {"accuracy": float((labels == predicted).mean()) if labels.size else 0.0}
    for prefix, average in (("", "macro"), ("weighted_", "weighted")):
        scores = precision_recall_fscore_support(
            labels, predicted, labels=range(num_classes), average=average, zero_division=0
        )
        found |= {
            f"{prefix}{name}": float(score)
            for name, score in zip(("precision", "recall", "f1"), scores[:3], strict=True)
        }
    if num_classes >= _TOP_5_CLASSES:
        found["top5"] = top_k_accuracy(labels, chances, k=5)
    return found | {
        "ece": calibration_error(labels, chances),
        "nll": negative_log_likelihood(labels, chances),
    }


def top_k_accuracy(true: np.ndarray, probabilities: np.ndarray, *, k: int) -> float:
    """Share of rows whose true class is among the k likeliest; ties go to the first class."""
    if not true.size:
        return 0.0
    likeliest = np.argsort(-probabilities, axis=1, kind="stable")[:, :k]
    return float((likeliest == true[:, None]).any(axis=1).mean())


def calibration_error(
    true: np.ndarray, probabilities: np.ndarray, *, bins: int = ECE_BINS
) -> float:
    """Expected calibration error: Guo et al. 2017, equation 3, on equal bins ((m-1)/M, m/M] of the
    top probability.

    Sum over the bins of (share of rows in it) x |accuracy in it - mean top probability in it|.
    """
    if not true.size:
        return 0.0
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == true
    bin_of = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    gaps = np.bincount(bin_of, weights=right - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / true.size)


def negative_log_likelihood(true: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean of -ln p(true class). A probability of 0 counts as the smallest normal double, so the
    mean stays finite."""
    if not true.size:
        return 0.0
    p_true = probabilities[np.arange(true.size), true]
    return float(-np.log(np.maximum(p_true, _SMALLEST)).mean())


def confusion_matrix(
    true: Sequence[int] | np.ndarray, predicted: Sequence[int] | np.ndarray, num_classes: int
) -> np.ndarray:
    """Counts [num_classes, num_classes]: row is the true class, column the predicted one."""
    matrix = np.zeros((num_classes, num_classes), dtype=np.int64)
    np.add.at(matrix, (np.asarray(true, dtype=np.int64), np.asarray(predicted, dtype=np.int64)), 1)
    return matrix
