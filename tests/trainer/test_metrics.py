"""Metrics against numbers worked by hand."""

from __future__ import annotations

import pytest

from trainer.metrics import classification_metrics, confusion_matrix


def test_macro_averages_by_hand() -> None:
    """Class 0: p 2/3, r 1; class 1: p 1, r 1/2; class 2: never predicted."""
    found = classification_metrics([0, 0, 1, 1, 2], [0, 0, 1, 2 - 2, 1], 3)
    assert found["accuracy"] == pytest.approx(3 / 5)
    assert found["precision"] == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)
    assert found["recall"] == pytest.approx((1 + 1 / 2 + 0) / 3)
    assert found["f1"] == pytest.approx((0.8 + 0.5 + 0) / 3)


def test_macro_recall_equals_accuracy_on_a_balanced_test_set() -> None:
    found = classification_metrics([0, 0, 1, 1, 2, 2], [0, 1, 1, 1, 0, 2], 3)
    assert found["recall"] == pytest.approx(found["accuracy"])


def test_confusion_rows_are_true_classes() -> None:
    assert confusion_matrix([0, 0, 1], [0, 1, 1], 3).tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]
