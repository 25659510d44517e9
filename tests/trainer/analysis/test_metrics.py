"""Metrics against numbers worked by hand and against scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from trainer.analysis.metrics import (
    FURTHER_METRICS,
    METRICS,
    calibration_error,
    classification_metrics,
    confusion_matrix,
)


def sure(predicted: list[int], classes: int) -> np.ndarray:
    """All the probability on these classes."""
    return np.eye(classes)[predicted]


def random_case(classes: int, *, rows: int = 400, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.RandomState(seed)
    logits = random.normal(size=(rows, classes)) * 2
    true = np.where(
        random.rand(rows) < 0.4, logits.argmax(axis=1), random.randint(0, classes, rows)
    )
    chances = np.exp(logits)
    return true, chances / chances.sum(axis=1, keepdims=True)


def test_macro_averages_by_hand() -> None:
    """Class 0: p 2/3, r 1; class 1: p 1, r 1/2; class 2: never predicted."""
    found = classification_metrics([0, 0, 1, 1, 2], sure([0, 0, 1, 0, 1], 3), 3)
    assert found["accuracy"] == pytest.approx(3 / 5)
    assert found["precision"] == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)
    assert found["recall"] == pytest.approx((1 + 1 / 2 + 0) / 3)
    assert found["f1"] == pytest.approx((0.8 + 0.5 + 0) / 3)


def test_weighted_averages_by_hand() -> None:
    """The same, each class by its number of images: 2, 2 and 1 of 5."""
    found = classification_metrics([0, 0, 1, 1, 2], sure([0, 0, 1, 0, 1], 3), 3)
    assert found["weighted_precision"] == pytest.approx((2 * 2 / 3 + 2 * 1 / 2) / 5)
    assert found["weighted_recall"] == pytest.approx(3 / 5)
    assert found["weighted_f1"] == pytest.approx((2 * 0.8 + 2 * 0.5) / 5)


def test_macro_recall_equals_accuracy_on_a_balanced_test_set() -> None:
    found = classification_metrics([0, 0, 1, 1, 2, 2], sure([0, 1, 1, 1, 0, 2], 3), 3)
    assert found["recall"] == pytest.approx(found["accuracy"])


@pytest.mark.parametrize("classes", [2, 10, 11, 90])
def test_every_metric_is_scikit_learns(classes: int) -> None:
    true, chances = random_case(classes)
    found = classification_metrics(true, chances, classes)
    predicted, labels = chances.argmax(axis=1), list(range(classes))
    expected = {
        "accuracy": sklearn_metrics.accuracy_score(true, predicted),
        "weighted_f1": sklearn_metrics.f1_score(
            true, predicted, average="weighted", zero_division=0
        ),
        "weighted_precision": sklearn_metrics.precision_score(
            true, predicted, average="weighted", zero_division=0
        ),
        "weighted_recall": sklearn_metrics.recall_score(
            true, predicted, average="weighted", zero_division=0
        ),
        "f1": sklearn_metrics.f1_score(
            true, predicted, average="macro", labels=labels, zero_division=0
        ),
        "nll": sklearn_metrics.log_loss(true, chances, labels=labels),
    }
    if classes > 10:
        expected["top5"] = sklearn_metrics.top_k_accuracy_score(true, chances, k=5, labels=labels)
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    assert ("top5" in found) == (classes > 10)
    assert set(found) <= {*METRICS, *FURTHER_METRICS}


def test_calibration_error_by_hand() -> None:
    """Bins of 1/15: three at 0.9 (two right) share one, 0.55 (wrong) has its own: 3/4 |2/3 - 0.9| +
    1/4 |0 - 0.55|."""
    chances = np.array([[0.9, 0.1], [0.9, 0.1], [0.1, 0.9], [0.45, 0.55]])
    assert calibration_error(np.array([0, 0, 0, 0]), chances) == pytest.approx(
        0.75 * (0.9 - 2 / 3) + 0.25 * 0.55
    )


def test_calibration_error_is_equation_3() -> None:
    true, chances = random_case(12)
    confidence, right = chances.max(axis=1), chances.argmax(axis=1) == true
    total = 0.0
    for m in range(1, 16):
        inside = ((m - 1) / 15 < confidence) & (confidence <= m / 15)
        if inside.any():
            total += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert calibration_error(true, chances) == pytest.approx(total)


def test_a_confidence_on_the_edge_of_two_bins_is_in_the_lower() -> None:
    """0.6 ends bin 9: right at 0.6 and wrong at 0.62 are two gaps, which in one bin would cancel
    out in part."""
    chances = np.array([[0.6, 0.4], [0.62, 0.38]])
    assert calibration_error(np.array([0, 1]), chances) == pytest.approx((0.4 + 0.62) / 2)


def test_a_perfectly_sure_and_right_model_is_calibrated_and_a_sure_and_wrong_one_is_not() -> None:
    right = classification_metrics([0, 1], sure([0, 1], 2), 2)
    wrong = classification_metrics([0, 1], sure([1, 0], 2), 2)
    assert (right["ece"], right["nll"]) == (0.0, 0.0)
    assert wrong["ece"] == 1.0
    assert math.isfinite(wrong["nll"])
    assert wrong["nll"] > 700


def test_top_5_is_right_when_the_true_class_is_fifth_and_wrong_when_it_is_sixth() -> None:
    # Class 0 the likeliest, class 11 the least.
    chances = np.arange(12, 0, -1, dtype=float)[None] / 78
    assert classification_metrics([4], chances, 12)["top5"] == 1.0
    assert classification_metrics([5], chances, 12)["top5"] == 0.0


def test_confusion_rows_are_true_classes() -> None:
    assert confusion_matrix([0, 0, 1], [0, 1, 1], 3).tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]
